-- Sourced by the benchmarks that read: makes profiles cust-0, cust-1, … of five events each, most of them within the last 30 days.
CREATE PROCEDURE load(profiles int) LANGUAGE plpgsql AS $$
BEGIN
	FOR n0 IN 0 .. profiles - 1 BY 10000 LOOP
		PERFORM profile_stream.apply_events(ARRAY(
			SELECT jsonb_build_object('eventId', m, 'customerId', 'cust-' || n, 'eventType',
				('{transaction.completed,session.started,transaction.completed,page.viewed,customer.profile.updated}'::text[])[m],
				'timestamp', now() - (hashint4(n * 8 + m) & 65535) / 65536.0 * interval '40 days', 'payload',
				jsonb_build_object('amount', (n * 7 + m) % 100000 / 100.0, 'channel', 'app', 'firstName', 'First' || n % 977, 'email', 'c' || n || '@example.org'))
			FROM generate_series(n0, least(n0 + 10000, profiles) - 1) n, generate_series(1, 5) m));
		COMMIT;
	END LOOP;
END $$;

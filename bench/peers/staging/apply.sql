-- Applies the events of the staging table to the profiles of their customers, each id once, by one statement.
WITH parsed AS (
	SELECT DISTINCT ON (customer_id, event_id) * FROM (
		SELECT kafka_offset, event ->> 'customerId' AS customer_id, event ->> 'eventId' AS event_id, event ->> 'eventType' AS kind,
			event -> 'payload' AS payload, (event ->> 'timestamp')::timestamptz AS at
		FROM staging) events
	ORDER BY customer_id, event_id, kafka_offset
), fresh AS (
	INSERT INTO event_ids SELECT customer_id, event_id FROM parsed
	ON CONFLICT DO NOTHING
	RETURNING customer_id, event_id
), applied AS (
	SELECT parsed.* FROM parsed JOIN fresh USING (customer_id, event_id)
), counts AS (
	SELECT customer_id, jsonb_object_agg(kind, number) AS event_counts
	FROM (SELECT customer_id, kind, count(*) AS number FROM applied GROUP BY customer_id, kind) kinds
	GROUP BY customer_id
), changes AS (
	SELECT customer_id, count(*) AS events,
		(array_agg(payload ->> 'firstName' ORDER BY kafka_offset DESC) FILTER (WHERE kind = 'customer.profile.updated' AND payload ->> 'firstName' <> ''))[1] AS first_name,
		(array_agg(payload ->> 'lastName' ORDER BY kafka_offset DESC) FILTER (WHERE kind = 'customer.profile.updated' AND payload ->> 'lastName' <> ''))[1] AS last_name,
		(array_agg(payload ->> 'email' ORDER BY kafka_offset DESC) FILTER (WHERE kind = 'customer.profile.updated' AND payload ->> 'email' <> ''))[1] AS email,
		(array_agg(payload ->> 'phone' ORDER BY kafka_offset DESC) FILTER (WHERE kind = 'customer.profile.updated' AND payload ->> 'phone' <> ''))[1] AS phone,
		count(*) FILTER (WHERE kind = 'account.opened') - count(*) FILTER (WHERE kind = 'account.closed') AS accounts,
		sum((payload ->> 'initialBalance')::numeric) FILTER (WHERE kind = 'account.opened') AS balance,
		sum((payload ->> 'amount')::numeric) FILTER (WHERE kind = 'transaction.completed') AS value,
		(array_agg(at ORDER BY kafka_offset DESC) FILTER (WHERE kind = 'transaction.completed'))[1] AS last_transaction_at,
		(array_agg(at ORDER BY kafka_offset DESC) FILTER (WHERE kind = 'session.started'))[1] AS last_login_at,
		(array_agg(payload ->> 'channel' ORDER BY kafka_offset DESC) FILTER (WHERE kind = 'session.started' AND payload ->> 'channel' <> ''))[1] AS channel,
		(array_agg(at ORDER BY kafka_offset DESC))[1] AS updated_at
	FROM applied GROUP BY customer_id
)
INSERT INTO profiles AS p
SELECT customer_id, events, coalesce(first_name, ''), coalesce(last_name, ''), coalesce(email, ''), coalesce(phone, ''), greatest(0, accounts),
	coalesce(balance, 0), coalesce(value, 0), last_transaction_at, last_login_at, coalesce(channel, 'app'), event_counts, updated_at
FROM changes JOIN counts USING (customer_id)
ORDER BY customer_id
ON CONFLICT (customer_id) DO UPDATE SET
	version = p.version + excluded.version,
	first_name = coalesce(nullif(excluded.first_name, ''), p.first_name),
	last_name = coalesce(nullif(excluded.last_name, ''), p.last_name),
	email = coalesce(nullif(excluded.email, ''), p.email),
	phone = coalesce(nullif(excluded.phone, ''), p.phone),
	account_count = p.account_count + excluded.account_count,
	total_balance = p.total_balance + excluded.total_balance,
	transaction_value = p.transaction_value + excluded.transaction_value,
	last_transaction_at = coalesce(excluded.last_transaction_at, p.last_transaction_at),
	last_login_at = coalesce(excluded.last_login_at, p.last_login_at),
	preferred_channel = CASE WHEN excluded.last_login_at IS NULL THEN p.preferred_channel ELSE excluded.preferred_channel END,
	event_counts = add_counts(p.event_counts, excluded.event_counts),
	updated_at = excluded.updated_at

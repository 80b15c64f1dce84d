-- Its amounts are floating-point numbers: they are compared in cents.
SELECT customer_id, version, data ->> 'firstName' AS first_name, data ->> 'lastName' AS last_name, data ->> 'email' AS email,
	data ->> 'phone' AS phone, (data ->> 'accountCount')::bigint AS account_count, round((data ->> 'totalBalance')::numeric, 2)::text AS total_balance,
	round((data ->> 'totalTransactionValue30d')::numeric, 2)::text AS "total_transaction_value_30d@0",
	data ->> 'preferredChannel' AS preferred_channel, data -> 'eventCounts' AS event_counts,
	(extract(epoch FROM updated_at) * 1000000)::bigint AS updated_at,
	(extract(epoch FROM (data ->> 'lastTransactionDate')::timestamptz) * 1000000)::bigint AS last_transaction_at,
	(extract(epoch FROM (data ->> 'lastLoginDate')::timestamptz) * 1000000)::bigint AS last_login_at
FROM materialized_profiles

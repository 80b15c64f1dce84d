-- The profiles of this extension, as check.py compares them.
SELECT customer_id, version, first_name, last_name, email, phone, account_count, total_balance::text,
	profile_stream.metric_value(customer_id, 'total_transaction_value_30d', '2026-01-25Z')::text AS "total_transaction_value_30d@0",
	COALESCE(NULLIF(preferred_channel, ''), 'app') AS preferred_channel, event_counts,
	(extract(epoch FROM updated_at) * 1000000)::bigint AS updated_at,
	(extract(epoch FROM last_transaction_at) * 1000000)::bigint AS last_transaction_at,
	(extract(epoch FROM last_login_at) * 1000000)::bigint AS last_login_at
FROM profile_stream.materialized_profiles

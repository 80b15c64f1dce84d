CREATE TABLE materialized_profiles (
	customer_id text PRIMARY KEY,
	data jsonb NOT NULL,
	version bigint NOT NULL,
	updated_at timestamptz NOT NULL
) WITH (fillfactor = 75);

-- The table that the peers keep: what an event changes, without windows of time. Those of ours cost more.
CREATE TABLE profiles (
	customer_id text COLLATE "C" PRIMARY KEY,
	version bigint NOT NULL,
	first_name text NOT NULL DEFAULT '',
	last_name text NOT NULL DEFAULT '',
	email text NOT NULL DEFAULT '',
	phone text NOT NULL DEFAULT '',
	account_count bigint NOT NULL DEFAULT 0,
	total_balance numeric NOT NULL DEFAULT 0,
	transaction_value numeric NOT NULL DEFAULT 0,
	last_transaction_at timestamptz,
	last_login_at timestamptz,
	preferred_channel text NOT NULL DEFAULT 'app',
	event_counts jsonb NOT NULL DEFAULT '{}',
	updated_at timestamptz NOT NULL
) WITH (fillfactor = 75);

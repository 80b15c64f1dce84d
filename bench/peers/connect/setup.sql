-- Where the sink lands, with the key that it makes of a message's place. What is delivered again updates its row and fires no
-- trigger; ids of events are kept beside it, as by the consumer that stages.
\ir ../profiles.sql
CREATE TABLE landing (
	__connect_topic text,
	__connect_partition int,
	__connect_offset bigint,
	event text NOT NULL,
	PRIMARY KEY (__connect_topic, __connect_partition, __connect_offset)
);
CREATE TABLE event_ids (
	customer_id text COLLATE "C",
	event_id text COLLATE "C",
	PRIMARY KEY (customer_id, event_id)
);

CREATE FUNCTION apply_landed() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
	event jsonb := NEW.event;
	customer text := event ->> 'customerId';
	kind text := event ->> 'eventType';
	payload jsonb := event -> 'payload';
	at timestamptz := event ->> 'timestamp';
	p profiles;
BEGIN
	INSERT INTO event_ids VALUES (customer, event ->> 'eventId') ON CONFLICT DO NOTHING;
	IF NOT FOUND THEN
		RETURN NULL;
	END IF;
	INSERT INTO profiles (customer_id, version, updated_at) VALUES (customer, 0, at) ON CONFLICT DO NOTHING;
	SELECT * INTO p FROM profiles WHERE customer_id = customer FOR UPDATE;
	CASE kind
		WHEN 'customer.profile.updated' THEN
			p.first_name := coalesce(nullif(payload ->> 'firstName', ''), p.first_name);
			p.last_name := coalesce(nullif(payload ->> 'lastName', ''), p.last_name);
			p.email := coalesce(nullif(payload ->> 'email', ''), p.email);
			p.phone := coalesce(nullif(payload ->> 'phone', ''), p.phone);
		WHEN 'transaction.completed' THEN
			p.transaction_value := p.transaction_value + (payload ->> 'amount')::numeric;
			p.last_transaction_at := at;
		WHEN 'account.opened' THEN
			p.account_count := p.account_count + 1;
			p.total_balance := p.total_balance + coalesce((payload ->> 'initialBalance')::numeric, 0);
		WHEN 'account.closed' THEN
			p.account_count := greatest(0, p.account_count - 1);
		WHEN 'session.started' THEN
			p.preferred_channel := coalesce(nullif(payload ->> 'channel', ''), p.preferred_channel);
			p.last_login_at := at;
		ELSE
			NULL;
	END CASE;
	UPDATE profiles SET version = p.version + 1, first_name = p.first_name, last_name = p.last_name, email = p.email, phone = p.phone,
		account_count = p.account_count, total_balance = p.total_balance, transaction_value = p.transaction_value,
		last_transaction_at = p.last_transaction_at, last_login_at = p.last_login_at, preferred_channel = p.preferred_channel,
		event_counts = jsonb_set(p.event_counts, ARRAY[kind], to_jsonb(coalesce((p.event_counts ->> kind)::bigint, 0) + 1)), updated_at = at
		WHERE customer_id = customer;
	RETURN NULL;
END $$;
CREATE TRIGGER apply_landed AFTER INSERT ON landing FOR EACH ROW EXECUTE FUNCTION apply_landed();

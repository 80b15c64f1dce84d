# Clients that poll profiles_changed_since() miss no change, whatever transactions write meanwhile. Their bookmarks
# survive a crash, a promotion and the wrap-around of transaction ids. With track_commit_timestamp each row has its time of change.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Utils;
use ProfileStream::Node qw(event);
use Test::More;

my $node = ProfileStream::Node->start_new('main', init => { allows_streaming => 1 },
	conf => "max_connections = 40\nmax_prepared_transactions = 10\nwal_writer_delay = 10s\nautovacuum = off\ntrack_commit_timestamp = on\n");
my $customers = 200;
my $seconds = $ENV{PS_EVENTS} ? 60 : 6;
my $dir = PostgreSQL::Test::Utils::tempdir('scripts');

sub script
{
	my ($name, $text) = @_;
	append_to_file("$dir/$name", $text);
	return "$dir/$name";
}

# A call that applies an event of a customer.
sub apply
{
	my ($customer, $id) = @_;
	return "profile_stream.apply_event('" . event($id, $customer, type => 'noop') . "')";
}

# Who is told of since a bookmark.
sub told
{
	my ($bookmark) = @_;
	return $node->sql("SELECT coalesce(string_agg(customer_id, ' ' ORDER BY customer_id), '') FROM profile_stream.profiles_changed_since('$bookmark')");
}

$node->sql("SELECT profile_stream.apply_event(jsonb_build_object('eventId', '0', 'customerId', 'c' || n, 'eventType', 'noop', 'timestamp', '2026-01-01'))
	FROM generate_series(1, $customers) n");
$node->sql(<<'END');
CREATE TABLE seen (client int, customer_id text, version bigint, segment text, PRIMARY KEY (client, customer_id));
CREATE TABLE rounds (client int, changes bigint);
CREATE SEQUENCE event_ids;
CREATE FUNCTION event(customer int) RETURNS jsonb LANGUAGE sql AS
	$$ SELECT jsonb_build_object('eventId', 'e' || nextval('event_ids'), 'customerId', 'c' || customer, 'eventType', 'noop', 'timestamp', '2026-01-01') $$;
-- a client that keeps what it is told, one transaction a round
CREATE PROCEDURE follow(client int, until timestamptz) LANGUAGE plpgsql AS $$
DECLARE
	bookmark text;
	told bigint;
	at_end boolean;
BEGIN
	LOOP
		-- asked before the read: a writer may commit after it, and be gone when the round ends
		at_end := clock_timestamp() > until AND NOT EXISTS (SELECT FROM pg_stat_activity WHERE application_name = 'writer')
			AND NOT EXISTS (SELECT FROM pg_prepared_xacts);
		WITH c AS MATERIALIZED (
			SELECT x.customer_id, x.version, p.segment, x.next_bookmark
			FROM profile_stream.profiles_changed_since(bookmark) x JOIN profile_stream.profiles p USING (customer_id)
		), kept AS (
			INSERT INTO seen SELECT follow.client, c.customer_id, c.version, c.segment FROM c
			ON CONFLICT ON CONSTRAINT seen_pkey DO UPDATE SET version = EXCLUDED.version, segment = EXCLUDED.segment
		)
		SELECT COALESCE(max(c.next_bookmark), bookmark), count(*) INTO bookmark, told FROM c;
		INSERT INTO rounds VALUES (client, told);
		COMMIT;
		EXIT WHEN at_end AND told = 0;
	END LOOP;
END $$;
END

# Writers of every kind; a transaction lasts from no time to 200 ms.
my %writers = (
	events => "\\set c random(1, $customers)\nSELECT profile_stream.apply_event(event(:c));\n\\sleep 3 ms\n",
	long => <<"END",
\\set c random(1, $customers)
\\set ms random(1, 200)
BEGIN;
SELECT profile_stream.apply_event(event(:c));
\\sleep :ms ms
COMMIT;
END
	by_hand => <<"END",
\\set c random(1, $customers)
\\set ms random(1, 100)
BEGIN;
SELECT txid_current();
\\sleep :ms ms
SELECT profile_stream.lock_customer('c' || :c);
SAVEPOINT a;
UPDATE profile_stream.materialized_profiles SET segment = nextval('event_ids') WHERE customer_id = 'c' || :c;
ROLLBACK TO a;
SAVEPOINT b;
UPDATE profile_stream.materialized_profiles SET segment = nextval('event_ids') WHERE customer_id = 'c' || :c;
RELEASE b;
\\sleep :ms ms
COMMIT;
END
	aborted => <<"END",
\\set c random(1, $customers)
BEGIN;
SELECT profile_stream.apply_event(event(:c));
\\sleep 5 ms
ROLLBACK;
END
	prepared => <<"END",
\\set c random(1, $customers)
\\set ms random(1, 100)
BEGIN;
SELECT profile_stream.lock_customer('c' || :c);
UPDATE profile_stream.materialized_profiles SET segment = nextval('event_ids') WHERE customer_id = 'c' || :c;
PREPARE TRANSACTION 'writer:client_id';
\\sleep :ms ms
COMMIT PREPARED 'writer:client_id';
END
	vacuum => "VACUUM (FREEZE) profile_stream.materialized_profiles;\n\\sleep 50 ms\n");
my @running;
{
	local $ENV{PGHOST} = $node->host;
	local $ENV{PGPORT} = $node->port;
	local $ENV{PGAPPNAME} = 'writer';
	foreach my $kind (sort keys %writers)
	{
		push @running, IPC::Run::start(
			[ 'pgbench', '-n', '-c', $kind eq 'vacuum' ? 1 : 2, '-T', $seconds, '-f', script("$kind.sql", $writers{$kind}), 'postgres' ],
			'>', "$dir/$kind.out", '2>&1');
	}
	$ENV{PGAPPNAME} = 'client';
	push @running, IPC::Run::start([ 'psql', '-X', '-c', "CALL follow($_, now() + interval '$seconds s')", 'postgres' ], '>', "$dir/client$_.out", '2>&1')
	  foreach 1 .. 2;
	foreach (@running)
	{
		ok($_->finish, 'ended well') || diag(map { slurp_file($_) } glob("$dir/*.out"));
	}
}
is($node->sql(<<'END'), '', 'they have missed nothing');
SELECT client, customer_id, p.version, s.version, p.segment, s.segment
FROM profile_stream.profiles p CROSS JOIN generate_series(1, 2) client LEFT JOIN seen s USING (client, customer_id)
WHERE (p.version, p.segment) IS DISTINCT FROM (s.version, s.segment)
END
is($node->sql(<<'END'), "$customers|$customers", 'every row has its time of change, which is that of its commit');
SELECT count(p.changed_at), count(*) FILTER (WHERE p.changed_at = pg_xact_commit_timestamp(m.xmin) AND p.changed_at <= now())
FROM profile_stream.profiles p JOIN profile_stream.materialized_profiles m USING (customer_id)
END
is($node->sql('BEGIN; SELECT ' . apply('c1', 'own') . "; SELECT changed_at IS NULL FROM profile_stream.profiles WHERE customer_id = 'c1'; COMMIT"), "applied\nt", 'but none before it');
note($node->sql("SELECT count(*) || ' rounds, ' || sum(changes) || ' changes told' FROM rounds"));
cmp_ok($node->sql('SELECT sum(version) FROM profile_stream.materialized_profiles'), '>', $customers + 100, 'there was something to miss');
cmp_ok($node->sql('SELECT count(*) FROM rounds WHERE changes BETWEEN 1 AND 100'), '>', 20, 'and were not told of everything each time');

# A crash takes back transactions whose ids are then given to others.
my $bookmark = $node->sql(join(';', 'SET synchronous_commit = off',
		(map { 'DO $$BEGIN PERFORM ' . apply("c$_", 'crash') . '; END$$' } 1 .. 20),
		'SELECT profile_stream.profile_bookmark()'));
$node->stop('immediate');
$node->start;
$node->sql('SELECT ' . apply("c$_", 'after')) foreach 101 .. 110;
is(told($bookmark), join(' ', map { "c$_" } 101 .. 110), 'after a crash: what changed since is told');

# A standby goes on with the primary's bookmarks, until it is promoted.
$node->backup('backup');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'backup', has_streaming => 1);
$standby->start;
$bookmark = $node->sql('SELECT profile_stream.profile_bookmark()');
$node->sql('SELECT ' . apply('c1', 'standby'));
$node->wait_for_catchup($standby);
my ($there, $next) = split(/\|/,
	$standby->safe_psql('postgres', "SELECT string_agg(customer_id, ' '), min(next_bookmark) FROM profile_stream.profiles_changed_since('$bookmark')"));
is($there, 'c1', 'a standby takes a bookmark of the primary');
my $times = 'SELECT md5(string_agg(changed_at::text, customer_id ORDER BY customer_id)) FROM profile_stream.bi_profiles';
is($standby->safe_psql('postgres', $times), $node->sql($times), 'and has its times of change');
$node->sql('SELECT ' . apply('c2', 'standby'));
is(told($next), 'c2', 'and the primary one of the standby');
$standby->promote;
is($standby->safe_psql('postgres', "SELECT count(*) FROM profile_stream.profiles_changed_since('$next')"), $customers, 'after a promotion: everything');
$next = $standby->safe_psql('postgres', 'SELECT profile_stream.profile_bookmark()');
is($standby->safe_psql('postgres', "SELECT count(*) FROM profile_stream.profiles_changed_since('$next')"), '0', 'and from there on what changes');
is($node->sql("SELECT count(*) FROM profile_stream.profiles_changed_since('$next')"), $customers, 'the old primary does not know the bookmark of the new one');
$standby->stop;

# So many transactions later that ids come round again.
$bookmark = $node->sql('SELECT profile_stream.profile_bookmark()');
$node->stop;
$node->command_ok([ 'pg_resetwal', '-e', 1, '-D', $node->data_dir ], 'an epoch passes');
$node->start;
is($node->sql("SELECT count(*) FROM profile_stream.profiles_changed_since('$bookmark')"), $customers, 'a bookmark of the epoch before: everything');
$bookmark = $node->sql('SELECT profile_stream.profile_bookmark()');
is(told($bookmark), '', 'and from there on what changes');
$node->sql('SELECT ' . apply('c3', 'epoch'));
is(told($bookmark), 'c3', 'and nothing else');
$node->stop;
done_testing();

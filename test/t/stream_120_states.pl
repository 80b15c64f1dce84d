# What a stream reports while something keeps it from working: a state with its reason, since when, and the next attempt,
# which comes later each time. The log has one line when it begins and one when it is over. A partition that cannot be
# applied stops no other one, and a partition that works does not hide it.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Utils;
use ProfileStream::Broker;
use ProfileStream::Node;
use Test::More;
use Time::HiRes qw(usleep);

my $broker = ProfileStream::Broker->new(
	mock => !ProfileStream::Broker::available(),
	topics => [ [ 'events', 3 ] ]);
my $node = ProfileStream::Node->start_new('main');
my $ids = 0;
my $taken = 0;

# Produces events of a customer to a partition.
sub produce
{
	my ($partition, $customer, $n) = @_;
	$broker->produce('events', map { [ $partition, $customer,
			sprintf('{"eventId":"e%d","customerId":"%s","eventType":"seen","timestamp":"2026-01-01T00:00:00Z"}', $ids++, $customer) ] } 1 .. $n);
}

# How many lines of the log match, from a place on.
sub lines
{
	my ($pattern, $from) = @_;
	my $count = () = slurp_file($node->logfile, $from) =~ /$pattern/g;
	return $count;
}

sub version_of { return $node->sql("SELECT coalesce(sum(version), 0) FROM profile_stream.materialized_profiles WHERE customer_id = '$_[0]'"); }

# The changes that stream_log has from an id on.
sub changes
{
	my ($after) = @_;
	return $node->sql("SELECT string_agg(coalesce(from_state, '-') || '>' || to_state, ' ' ORDER BY log_id) FROM profile_stream.stream_log WHERE log_id > $after");
}
sub last_change { return $node->sql('SELECT coalesce(max(log_id), 0) FROM profile_stream.stream_log'); }

$node->sql("CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS \$\$ BEGIN
	IF new.customer_id = 'c2' THEN RAISE disk_full USING MESSAGE = 'no room for c2', HINT = 'Make room.'; END IF; RETURN new; END \$\$",
	'CREATE TRIGGER refuse BEFORE INSERT OR UPDATE ON profile_stream.materialized_profiles FOR EACH ROW EXECUTE FUNCTION refuse()');
$node->create_stream('crm', $broker, 'events');
produce($_, 'c1', 1) foreach 0 .. 2;
ok($node->wait_taken('crm', 3), 'the stream runs');
ok($node->wait_state('crm', 'running'), 'and says so');
ok($node->sql("SELECT since <= now() AND since > now() - interval '10 minutes' FROM profile_stream.stat_streams") eq 't', 'since when');

# one partition cannot be applied
my $from = -s $node->logfile;
my $id = last_change();
produce(2, 'c2', 1);
ok($node->wait_state('crm', 'retrying'), 'a partition that cannot be applied: the stream says it');
my %seen;
my @waits;
for my $i (1 .. 12)
{
	produce(0, 'c1', 1);
	ok($node->poll_query_until('postgres', "SELECT version = @{[ 3 + $i ]} FROM profile_stream.materialized_profiles WHERE customer_id = 'c1'"),
		"event $i of another partition is applied");
	my ($state, $error, $wait) = split(/\|/, $node->sql("SELECT state, error, extract(epoch FROM next_attempt_at - error_at) FROM profile_stream.stat_streams"));
	$seen{"$state: $error"} = 1;
	push(@waits, $wait) if !@waits || $wait != $waits[-1];
	usleep(500_000);
}
is(join(', ', keys %seen), 'retrying: no room for c2', 'what works meanwhile hides neither the state nor the error');
cmp_ok(scalar(@waits), '>=', 2, 'there were several attempts');
cmp_ok($waits[-1], '>', $waits[0] + 0.5, 'the next attempt comes later each time');
is(lines(qr/no room for c2/, $from), 1, 'and there is one line of the log');
is(changes($id), 'running>retrying', 'and one row of stream_log');
is($node->sql("SELECT what, part IS NULL, reason, hint, lasted > '0' FROM profile_stream.stream_log WHERE log_id > $id"),
	'stream|t|no room for c2|Make room.|t', 'with the reason, the hint and how long the state before lasted');
$node->sql('DROP TRIGGER refuse ON profile_stream.materialized_profiles');
ok($node->wait_state('crm', 'running'), 'the cause is gone: it runs again by itself');
is(version_of('c2'), 1, 'the event is applied, once');
is(lines(qr/LOG: .*stream "crm" is running again, after \d+\.\d s/, $from), 1, 'one line says so, and how long it took');
is(changes($id), 'running>retrying retrying>running', 'and one row');
$taken = $node->taken('crm');

# paused and resumed before the worker looks: it goes on, and says so
$node->sql('BEGIN', "SELECT profile_stream.pause_stream('crm')", "SELECT profile_stream.resume_stream('crm')", 'COMMIT');
ok($node->wait_state('crm', 'running'), 'paused and resumed at once: it runs');

# read-only by default, and no transaction longer than 0.2 s: a worker's processes take neither
$node->sql("CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.5); RETURN new; END'",
	'CREATE TRIGGER slow BEFORE INSERT ON profile_stream.materialized_profiles FOR EACH ROW EXECUTE FUNCTION slow()',
	$node->pg_version >= 17 ? "ALTER DATABASE postgres SET transaction_timeout = '200 ms'" : (),
	'ALTER DATABASE postgres SET default_transaction_read_only = on', "ALTER DATABASE postgres SET default_transaction_isolation = 'serializable'");
$from = -s $node->logfile;
my $pid = $node->stream_pid('crm');
$node->safe_psql('postgres', "SELECT pg_terminate_backend($pid)");
ok($node->wait_stream_pid('crm', $pid), 'read-only by default: it starts again');
produce(1, 'c3', 2);
ok($node->wait_taken('crm', $taken += 2), 'and applies');
is(lines(qr/read-only|transaction timeout/, $from), 0, 'nothing complains');
$node->safe_psql('postgres', 'SET default_transaction_read_only = off; ALTER DATABASE postgres RESET ALL; DROP TRIGGER slow ON profile_stream.materialized_profiles');

# a role that sessions of the database take: processes of a stream have the rights of its owner
$node->sql('CREATE ROLE visitor', 'ALTER DATABASE postgres SET role = visitor');
{
	local $ENV{PGOPTIONS} = '-c role=none';
	$node->restart;
	produce(1, 'c3', 1);
	ok($node->wait_taken('crm', $taken += 1), 'a role of the database: it applies');
	$node->sql('ALTER DATABASE postgres RESET role', 'DROP ROLE visitor');
}

# objects of another version than the library: the stream waits, and goes on by itself
$from = -s $node->logfile;
$id = last_change();
$node->sql("UPDATE pg_extension SET extversion = '0.0.9' WHERE extname = 'profile_stream'", 'CREATE FUNCTION look() RETURNS void LANGUAGE sql AS $$ $$');
ok($node->wait_state('crm', 'retrying'), 'another version of the objects: a state');
is($node->sql("SELECT error ~ 'is of version 0.0.9 in this database, and its library of version' AND hint ~ 'ALTER EXTENSION' FROM profile_stream.stat_streams"), 't', 'that says what to do');
produce(1, 'c4', 1);
usleep(2_000_000);
is(version_of('c4'), 0, 'and nothing is applied');
$node->restart;
ok($node->wait_state('crm', 'retrying'), 'also after a restart');
$node->reload;
is($node->sql("SELECT count(*) FROM pg_stat_activity WHERE backend_type ~ '^profile_stream (worker|relay)'"), 0, 'no process works');
is(lines(qr/streams do not run: extension profile_stream is of version 0\.0\.9/, $from), 1, 'one line of the log');
is(changes($id), 'running>retrying', 'and one row');
$node->sql("UPDATE pg_extension SET extversion = (SELECT profile_stream.version() ->> 'library') WHERE extname = 'profile_stream'", 'DROP FUNCTION look()');
ok($node->wait_taken('crm', $taken += 1), 'it goes on');
ok($node->wait_state('crm', 'running'), 'and says so');

# tables that are distributed: the worker writes nothing
$node->sql("SET allow_system_table_mods = on; CREATE TABLE pg_catalog.pg_dist_partition AS SELECT 'profile_stream.materialized_profiles'::regclass AS logicalrelid");
produce(1, 'c5', 1);
ok($node->wait_state('crm', 'retrying'), 'a distributed table: a state');
like($node->sql('SELECT error FROM profile_stream.stat_streams'), qr/materialized_profiles is distributed by Citus/, 'that says so');
is(version_of('c5'), 0, 'and nothing is written');
$node->sql('SET allow_system_table_mods = on; DROP TABLE pg_catalog.pg_dist_partition');
ok($node->wait_taken('crm', $taken += 1), 'it goes on');

# a database that is closed: the worker does not come back every second, and the launcher finds it open again
ok($node->wait_state('crm', 'running'), 'it runs');
$pid = $node->stream_pid('crm');
$node->sql('CREATE DATABASE other');
$node->safe_psql('other', 'ALTER DATABASE postgres ALLOW_CONNECTIONS false');
$from = -s $node->logfile;
$node->safe_psql('other', "SELECT pg_terminate_backend($pid)");
ok($node->wait_for_log(qr/not currently accepting connections/, $from), 'a closed database: the worker ends');
usleep(4_000_000);
cmp_ok(lines(qr/FATAL/, $from), '<=', 3, 'and does not come back every second');
$node->safe_psql('other', 'ALTER DATABASE postgres ALLOW_CONNECTIONS true');
ok($node->wait_stream_pid('crm', $pid), 'open again: the stream comes back by itself');
produce(0, 'c1', 1);
ok($node->wait_taken('crm', $taken += 1), 'and applies');

# a broker that is away, from the first moment on
$from = -s $node->logfile;
$id = last_change();
$node->sql("SELECT profile_stream.create_stream('away', bootstrap_servers => '127.0.0.1:1', topic => 'events')");
ok($node->wait_state('away', 'retrying'), 'no broker: a state');
usleep(5_000_000);
is(lines(qr/stream "away" is retrying/, $from), 1, 'one line of the log, whatever librdkafka counts in its words');
is($node->sql("SELECT count(*) FROM profile_stream.stream_log WHERE stream = 'away' AND from_state IS NOT NULL"), 1, 'and one row');
$node->sql("SELECT profile_stream.alter_stream('away', bootstrap_servers => '" . $broker->bootstrap . "')");
ok($node->wait_state('away', 'running'), 'it runs');
ok($node->wait_for_log(qr/stream "away" is running again, after/, $from), 'and the log says so');

$node->is_clean('end');
$node->stop('fast');
$broker->stop;
done_testing();

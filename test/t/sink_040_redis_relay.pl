# A stream with a Redis. Whatever becomes of Redis, the stream goes on, and afterwards Redis has what get_profile() says.
# PS_SEED repeats a run, PS_EVENTS and PS_CUSTOMERS make it longer.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Utils;
use ProfileStream::Broker;
use ProfileStream::Node;
use ProfileStream::Redis;
use Test::More;

plan skip_all => 'needs a Kafka (KAFKA_HOME)' unless ProfileStream::Broker::available();

my $customers = $ENV{PS_CUSTOMERS} // 2_000;
my $events = ProfileStream::Node::generate(
	seed => $ENV{PS_SEED} // int(rand(1_000_000)),
	events => $ENV{PS_EVENTS} // 20_000,
	customers => $customers,
	parts => 5);
my @files = @{ $events->{files} };
my $broker = ProfileStream::Broker->new(topics => [ [ 'events', 4 ] ]);
my $node = ProfileStream::Node->start_new('main');
my $redis = ProfileStream::Redis->new;
my $produced = 0;

# The value of a column of stat_sinks.
sub sink
{
	my ($column) = @_;
	return $node->safe_psql('postgres', "SELECT $column FROM profile_stream.stat_sinks WHERE stream = 'crm'");
}

sub wait_sink
{
	my ($condition) = @_;
	return $node->wait_sink('crm', $condition);
}

# Produces the next file and waits until the stream has taken it.
sub next_file
{
	my $file = shift @files;
	$produced += () = slurp_file($file) =~ /\n/g;
	$broker->produce_file('events', $file);
	return $node->wait_taken('crm', $produced);
}

sub is_equal
{
	my ($from, $name) = @_;
	return $redis->equals_profiles($node, 'crm', $from, $name);
}

sub now { return $node->safe_psql('postgres', 'SELECT now()'); }

my $begin = now();
$node->create_stream('crm', $broker, 'events', redis => "'" . $redis->address . "'", redis_ttl => "'1 day'");
ok(next_file(), 'the stream runs');
is_equal($begin, 'delivered');
cmp_ok($redis->command('TTL', 'profile:' . (sort keys %{ $redis->values_of('profile:') })[0]), '>', 80_000, 'with the time to live');
is($node->safe_psql('postgres', "SELECT profile_stream.apply_event('{\"eventId\": \"e\", \"customerId\": \"sql\", \"eventType\": \"x\", \"timestamp\": \"2026-01-01T00:00:00Z\"}')"),
	'applied', 'an event without Kafka');
ok(wait_sink('backlog = 0'), 'is delivered');
like($redis->command('GET', 'profile:sql'), qr/"version": 1,/, 'too');
$node->sql(q{SELECT profile_stream.apply_event(jsonb_build_object('eventId', 'now', 'customerId', 'sql', 'eventType', 'transaction.completed', 'payload', '{"amount": 1}'::jsonb, 'timestamp', now()))});
ok(wait_sink('backlog = 0'), 'an event that is newer than the process of the relay');
like($redis->command('GET', 'profile:sql'), qr/"transactionCount30d": 1,/, 'is in the metrics');

# frozen, with a pipeline on its way
my $pid = sink('relay_pid');
$redis->freeze;
ok(next_file(), 'frozen: the stream goes on');
ok(wait_sink("state = 'retrying' AND error LIKE '%no answer within 5 s' AND hint IS NOT NULL AND next_attempt_at IS NOT NULL"), 'frozen: the sink says so');
is($node->stream_state('crm'), 'running', 'frozen: the stream is running');
cmp_ok(sink('backlog'), '>', 0, 'frozen: there is a backlog');
is($node->safe_psql('postgres', 'SELECT count(*) FROM profile_stream_internal.sink_pending'),
	$node->safe_psql('postgres', 'SELECT count(DISTINCT customer_id) FROM profile_stream_internal.sink_pending'), 'frozen: of one row per customer');
ok($node->wait_idle, 'frozen: the relay keeps no transaction, snapshot or lock while it waits');
$node->safe_psql('postgres', "DELETE FROM profile_stream.materialized_profiles WHERE customer_id = 'sql';"
	  . " DELETE FROM profile_stream_internal.event_id_chunks WHERE customer_id = 'sql';"
	  . " INSERT INTO profile_stream_internal.outbox (stream_id, sink, customer_ids, customers) SELECT stream_id, 'redis', '{sql}', 1 FROM profile_stream.streams");
is(sink('relay_pid'), $pid, 'frozen: by the same relay');
$node->safe_psql('postgres', "SELECT pg_terminate_backend($pid)");
ok(wait_sink("relay_pid <> $pid"), 'frozen: a relay that is terminated ends, and another comes');
$pid = sink('relay_pid');
$node->safe_psql('postgres', "SELECT profile_stream.pause_stream('crm')");
ok($node->poll_query_until('postgres', "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $pid"), 'frozen: a pause ends the relay');
is(sink('state'), 'not_running', 'frozen: which says so');
$node->safe_psql('postgres', "SELECT profile_stream.resume_stream('crm')");
ok(wait_sink('relay_pid IS NOT NULL'), 'frozen: resumed');
$redis->thaw;
is_equal($begin, 'thawed');
is($redis->command('EXISTS', 'profile:sql'), '0', 'thawed: a customer that was deleted is gone');

# killed while events come, it comes back empty: what changes again is there, the rest after a refill
my $producer = $broker->start_producing('events', $files[0]);
$produced += () = slurp_file(shift @files) =~ /\n/g;
$redis->restart;
$redis->restart;
$broker->finish_producing($producer);
ok($node->wait_taken('crm', $produced), 'killed twice: the stream goes on');
my $all = $node->safe_psql('postgres', 'SELECT count(*) FROM profile_stream.materialized_profiles');
is($node->safe_psql('postgres', "SELECT profile_stream.resync_sink('crm', 'redis')"), $all, 'killed twice: refilled');
is_equal($begin, 'killed twice');
$redis->command('FLUSHALL');
$node->sql('CREATE TABLE seen AS SELECT customer_id, version FROM profile_stream.materialized_profiles');
ok(next_file(), 'flushed: the stream goes on');
ok(wait_sink("backlog = 0 AND state = 'running'"), 'flushed: what changes is delivered');
is(join("\n", sort keys %{ $redis->values_of('profile:') }), $node->sql('SELECT p.customer_id FROM profile_stream.materialized_profiles p'
	  . ' LEFT JOIN seen s USING (customer_id) WHERE p.version IS DISTINCT FROM s.version ORDER BY p.customer_id COLLATE "C"'), 'flushed: and nothing else');
$node->safe_psql('postgres', "SELECT profile_stream.resync_sink('crm', 'redis')");
is_equal($begin, 'flushed and refilled');

# the server killed at each step of the relay
foreach my $step ('relay_before_send', 'relay_after_send', 'relay_after_delete')
{
	my $from = -s $node->logfile;
	$node->set_failpoint("$step:kill");
	$node->psql('postgres', "SELECT profile_stream.resync_sink('crm', 'redis')");
	ok($node->wait_for_log(qr/was terminated by signal 9/, $from), "$step: killed");
	$node->set_failpoint('');
	$node->wait_alive;
	is_equal($begin, $step);
}
$node->{expected_signals} = () = slurp_file($node->logfile) =~ /\(PID \d+\) was terminated by signal 9/g;

# what Redis refuses is shown, and over when it is over; a key of another kind is counted
$redis->command('CONFIG', 'SET', 'maxmemory', '1');
$node->safe_psql('postgres', "SELECT profile_stream.resync_sink('crm', 'redis')");
ok(wait_sink("state = 'retrying' AND error LIKE '%OOM command not allowed%' AND hint LIKE 'Redis is out of memory%'"), 'no memory: the sink says so');
$redis->command('CONFIG', 'SET', 'maxmemory', '0');
ok(wait_sink("backlog = 0 AND state = 'running' AND error IS NULL"), 'memory: it goes on by itself');
my $customer = $node->safe_psql('postgres', 'SELECT min(customer_id) FROM profile_stream.materialized_profiles');
$redis->command('DEL', "profile:$customer");
$redis->command('HSET', "profile:$customer", 'f', 'v');
my $delivered = sink('delivered');
$all = $node->safe_psql('postgres', 'SELECT count(*) FROM profile_stream.materialized_profiles');
$node->safe_psql('postgres', "SELECT profile_stream.resync_sink('crm', 'redis')");
ok(wait_sink("backlog = 0 AND refused = 1 AND delivered = $delivered + $all - 1"), 'a key of another kind is counted, the others are delivered');
$redis->command('DEL', "profile:$customer");

# another Redis, by name of a server; then none
my $other = ProfileStream::Redis->new(requirepass => 'topsecret');
$node->safe_psql('postgres', <<"END");
CREATE SERVER cache FOREIGN DATA WRAPPER profile_stream_redis OPTIONS (host '127.0.0.1', port '$other->{port}');
CREATE USER MAPPING FOR PUBLIC SERVER cache OPTIONS (password 'wrongsecret');
SELECT profile_stream.alter_stream('crm', redis => 'cache', redis_prefix => 'p:', redis_ttl => '1 hour');
SELECT profile_stream.resync_sink('crm', 'redis');
END
ok(wait_sink("state = 'retrying' AND error = 'Redis refused AUTH: WRONGPASS'"), 'a wrong password: the sink says so');
$node->safe_psql('postgres', "ALTER USER MAPPING FOR PUBLIC SERVER cache OPTIONS (SET password 'topsecret')");
ok(wait_sink("backlog = 0 AND state = 'running'"), 'the right one: everything is delivered');
is($other->command('--no-auth-warning', '-a', 'topsecret', 'EVAL', "return #redis.call('KEYS', 'p:*')", 0), $all, 'to the other Redis, under the other prefix');
$node->safe_psql('postgres', "SELECT profile_stream.alter_stream('crm', redis => '')");
ok($node->poll_query_until('postgres', "SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'profile_stream relay'"), 'switched off: the relay ends');
ok(next_file(), 'switched off: the stream goes on');
is($node->safe_psql('postgres', 'SELECT (SELECT count(*) FROM profile_stream_internal.outbox), (SELECT count(*) FROM profile_stream_internal.sink_pending)'), '0|0', 'switched off: nothing is kept');
$node->fails_like("SELECT profile_stream.resync_sink('crm', 'redis')", qr/stream "crm" has no sink "redis"\nHINT/, 'nothing to refill');
$node->equals_model('crm', $events, 'in the end', effects => 1);
$node->is_clean('end');

# a stream of a role that is no superuser, through servers
$node->safe_psql('postgres', <<"END");
CREATE ROLE crm LOGIN IN ROLE profile_stream_operator;
CREATE SERVER bank FOREIGN DATA WRAPPER profile_stream_kafka OPTIONS (bootstrap_servers '@{[ $broker->bootstrap ]}');
GRANT USAGE ON FOREIGN SERVER bank, cache TO crm;
END
$node->safe_psql('postgres', "SET ROLE crm; SELECT profile_stream.create_stream('own', server => 'bank', topic => 'events', redis => 'cache',"
	  . " redis_prefix => 'own:', start_from => 'latest'); SELECT profile_stream.resync_sink('own', 'redis')");
ok($node->wait_sink('own', "backlog = 0 AND state = 'running' AND delivered > 0"), 'a role that is no superuser: its relay delivers');
$node->fails_like("SET ROLE crm; SELECT profile_stream.alter_stream('own', redis => '127.0.0.1:1')", qr/permission denied to give the address/, 'but gives no address');
$node->safe_psql('postgres', "SELECT profile_stream.drop_stream('own')");
is($node->safe_psql('postgres', 'SELECT (SELECT count(*) FROM profile_stream_internal.outbox), (SELECT count(*) FROM profile_stream_internal.sink_pending), (SELECT count(*) FROM profile_stream_internal.sink_status)'),
	'0|0|0', 'dropped: nothing is kept');

# dropped while Redis is frozen
$node->safe_psql('postgres', "SELECT profile_stream.alter_stream('crm', redis => '" . $redis->socket . "')");
ok(wait_sink('relay_pid IS NOT NULL'), 'switched on again');
$redis->freeze;
$node->safe_psql('postgres', "SELECT profile_stream.resync_sink('crm', 'redis')");
ok(wait_sink('backlog > 0'), 'frozen: a backlog');
$node->safe_psql('postgres', 'DROP EXTENSION profile_stream CASCADE');
ok($node->poll_query_until('postgres', "SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'profile_stream relay'"), 'dropped: the relay ends');
$redis->thaw;
$node->stop('fast');
$broker->stop;
done_testing();

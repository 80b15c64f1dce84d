# serve_profile() returns what get_profile() does, and the relay writes it to Redis: not at each call, but so that the key does
# not expire. It never replaces a newer version, tells no topic, writes nothing where nothing can be written, and does not bring
# back a customer who is forgotten at the same time.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use ProfileStream::Node qw(event);
use ProfileStream::Redis;
use Test::More;
use Time::HiRes qw(time usleep);

my $node = ProfileStream::Node->start_new('main', init => { allows_streaming => 1 });
my $redis = ProfileStream::Redis->new;
my $n = 0;

sub apply { $n++; return $node->sql("SELECT profile_stream.apply_event('" . event("e$n", $_[0]) . "')"); }
sub serve { return $node->sql("SELECT profile_stream.serve_profile('$_[0]')"); }
sub value { return $redis->command('GET', "profile:$_[0]"); }
sub queued { return $node->sql("SELECT coalesce(string_agg(DISTINCT o.sink, ' '), '') FROM profile_stream_internal.outbox o WHERE '$_[0]' = ANY (o.customer_ids)"); }
sub delivered { return $node->wait_sink('crm', 'backlog = 0', 'redis'); }

# Waits until Redis has a key, or has none.
sub wait_key
{
	my ($customer, $there) = @_;
	for (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
	{
		return 1 if $redis->command('EXISTS', "profile:$customer") == $there;
		usleep(50_000);
	}
	return 0;
}

# nothing to write to
apply('early');
is(serve('early'), $node->sql("SELECT profile_stream.get_profile('early')"), 'without a Redis: as get_profile()');
is(queued('early'), '', 'without a Redis: nothing is queued');

# no broker is there: the relays run all the same
$node->sql("SELECT profile_stream.create_stream('crm', bootstrap_servers => '127.0.0.1:1', redis_ttl => '10 s', redis => '" . $redis->address . "')");
$node->sql("SELECT profile_stream.create_stream('topics', bootstrap_servers => '127.0.0.1:1', changelog_topic => 'updates')");
ok($node->wait_sink('crm', "state = 'idle'", 'redis'), 'the relay is there');
apply($_) foreach 'a', 'b', 'c';
ok(delivered(), 'delivered');

# a key that is gone comes back
$redis->command('FLUSHALL');
is(serve('early') ne '', 1, 'served');
ok(wait_key('early', 1), 'Redis has a profile that never changed since there is a Redis');
$redis->command('DEL', 'profile:a');
is(serve('a'), $node->sql("SELECT profile_stream.get_profile('a')"), 'as get_profile()');
ok(wait_key('a', 1), 'Redis has it');
is(value('a'), $node->sql("SELECT profile_stream.get_profile('a')"), 'as get_profile() says');
is($node->sql("SELECT profile_stream.serve_profile('nobody') IS NULL"), 't', 'an unknown customer has none');
is(queued('nobody'), '', 'and is not queued');
is(queued('a'), '', 'no topic is told');

# a hot profile, by many sessions
ok(delivered(), 'delivered');
my $before = $node->sql("SELECT delivered FROM profile_stream.stat_sinks WHERE stream = 'crm'");
my $began = time;
serve('b') foreach 1 .. 20;
$node->sql("SELECT count(profile_stream.serve_profile('b')) FROM generate_series(1, 5000)");
ok(delivered(), 'delivered');
my $more = $node->sql("SELECT delivered FROM profile_stream.stat_sinks WHERE stream = 'crm'") - $before;
cmp_ok($more, '<=', 2 + (time - $began) / 5, "5,020 calls: $more deliveries");
cmp_ok($more, '>=', 1, 'but at least one');

# while it is asked for, its key lives longer than the time to live
my $missed = 0;
my $calls = 0;
for ($began = time; time - $began < 22; usleep(300_000))
{
	serve('b');
	$calls++;
	$missed++ unless $redis->command('EXISTS', 'profile:b');
}
is($missed, 0, "$calls calls: the key was always there");
ok(wait_key('a', 0), 'a profile that nobody asks for leaves');

# a transaction that is rolled back has sent nothing, and the next call sends
$node->sql("BEGIN; SELECT profile_stream.serve_profile('a'); ROLLBACK");
$node->sql("BEGIN; SAVEPOINT s; SELECT profile_stream.serve_profile('a'); ROLLBACK TO s; COMMIT");
is($redis->command('EXISTS', 'profile:a'), '0', 'rolled back: nothing is sent');
$node->sql("BEGIN; SAVEPOINT s; SELECT profile_stream.serve_profile('a'); RELEASE s; SELECT profile_stream.serve_profile('a'); COMMIT");
ok(wait_key('a', 1), 'the next call sends');

# never an older version over a newer one
$redis->command('SET', 'profile:c', '{"version": 99}');
serve('c');
ok(delivered(), 'delivered');
is(value('c'), '{"version": 99}', 'a newer version stays');

# where nothing can be written it only reads
$redis->command('DEL', 'profile:c');
is($node->sql("BEGIN READ ONLY; SELECT profile_stream.serve_profile('c') ->> 'version'; COMMIT"), '1', 'a read-only transaction');
$node->backup('copy');
my $standby = ProfileStream::Node->new('standby');
$standby->init_from_backup($node, 'copy', has_streaming => 1);
$standby->start;
$node->wait_for_catchup($standby);
is($standby->sql("SELECT profile_stream.serve_profile('c')"), $node->sql("SELECT profile_stream.get_profile('c')"), 'a standby');
$standby->stop('fast');
is(queued('c'), '', 'nothing is queued');

# readers may call it; who is hidden from them is not sent
$node->sql('CREATE ROLE app LOGIN; GRANT profile_stream_reader TO app');
apply('hidden');
apply('d');
ok(delivered(), 'delivered');
$redis->command('DEL', 'profile:hidden', 'profile:d');
$node->sql('ALTER TABLE profile_stream.materialized_profiles ENABLE ROW LEVEL SECURITY',
	"CREATE POLICY p ON profile_stream.materialized_profiles FOR SELECT USING (customer_id <> 'hidden')");
is($node->sql("SET ROLE app; SELECT profile_stream.serve_profile('hidden') IS NULL, profile_stream.serve_profile('d') ->> 'version'"), 't|1', 'row security holds');
$node->sql('DROP POLICY p ON profile_stream.materialized_profiles; ALTER TABLE profile_stream.materialized_profiles DISABLE ROW LEVEL SECURITY');
ok(wait_key('d', 1), 'a reader has one sent');
is($redis->command('EXISTS', 'profile:hidden'), '0', 'and the hidden one not');

# an erasure between the call and its commit, and one that waits in the outbox behind it
foreach my $first ('serve', 'forget')
{
	my $customer = "gone_$first";
	apply($customer);
	ok(delivered(), "$customer: delivered");
	my $session = $node->background_psql('postgres');
	$session->query_safe("BEGIN; SELECT profile_stream.serve_profile('$customer')");
	$node->sql("SELECT profile_stream.forget_customer('$customer')") if $first eq 'forget';
	ok(delivered(), "$customer: the erasure is delivered") if $first eq 'forget';
	$redis->freeze if $first eq 'serve';
	$session->query_safe('COMMIT');
	usleep(500_000) if $first eq 'serve';    # the relay sends the old profile to a Redis that is frozen
	$node->sql("SELECT profile_stream.forget_customer('$customer')") if $first eq 'serve';
	$redis->thaw if $first eq 'serve';
	$session->quit;
	ok(delivered(), "$customer: everything is delivered");
	is($redis->command('EXISTS', "profile:$customer"), '0', "$customer: does not come back");
}

# the server killed before and after it is sent
foreach my $step ('relay_before_send', 'relay_after_send')
{
	apply($step);
	ok(delivered(), "$step: delivered");
	$redis->command('DEL', "profile:$step");
	my $from = -s $node->logfile;
	$node->set_failpoint("$step:kill");
	$node->psql('postgres', "SELECT profile_stream.serve_profile('$step')");
	ok($node->wait_for_log(qr/was terminated by signal 9/, $from), "$step: killed");
	$node->set_failpoint('');
	$node->stop('immediate');    # a relay that was started before the reload would kill once more
	$node->start;
	ok(wait_key($step, 1), "$step: Redis has it");
}
$node->{expected_signals} = () = slurp_file($node->logfile) =~ /\(PID \d+\) was terminated by signal 9/g;

# a stream that is paused is not sent anything; after FLUSHALL the profile comes again within the pause between two deliveries
$node->sql("SELECT profile_stream.pause_stream('crm')");
apply('paused');
$node->sql('DELETE FROM profile_stream_internal.outbox');
is($node->sql("SELECT profile_stream.serve_profile('paused') ->> 'version'"), '1', 'paused: it reads');
is(queued('paused'), '', 'paused: nothing is queued');
$node->sql("SELECT profile_stream.resume_stream('crm')");
ok($node->wait_sink('crm', "state IN ('idle', 'running')", 'redis'), 'resumed');
serve('paused');
ok(wait_key('paused', 1), 'resumed: sent');
$redis->command('FLUSHALL');
for ($began = time; time - $began < 60 && !$redis->command('EXISTS', 'profile:paused'); usleep(300_000)) { serve('paused'); }
is($redis->command('EXISTS', 'profile:paused'), '1', 'FLUSHALL: it comes back while it is asked for');

$node->is_clean('end');
$node->stop('fast');
done_testing();

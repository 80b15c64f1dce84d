# Server, Redis and Kafka are killed at random while events come. In the end every key is what get_profile() says. Until
# then no key goes back to an older version, unless Redis lost all of them. The last part builds without hiredis.
# PS_SEED repeats a run, PS_EVENTS, PS_CUSTOMERS and PS_ROUNDS make it longer.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use File::Spec;
use IPC::Run ();
use PostgreSQL::Test::Utils;
use ProfileStream::Broker;
use ProfileStream::Node;
use ProfileStream::Redis;
use Test::More;

plan skip_all => 'needs a Kafka (KAFKA_HOME)' unless ProfileStream::Broker::available();

my $seed = $ENV{PS_SEED} // int(rand(1_000_000));
my $faults = $ENV{PS_ROUNDS} // 10;
my $events = ProfileStream::Node::generate(
	seed => $seed,
	events => $ENV{PS_EVENTS} // 30_000,
	customers => $ENV{PS_CUSTOMERS} // 1_000,
	parts => $faults);
my $broker = ProfileStream::Broker->new(topics => [ [ 'events', 4 ] ]);
my $node = ProfileStream::Node->start_new('main');
my $redis = ProfileStream::Redis->new;
my %versions;
my $back = 0;
my %happened;

# Compares each key's version with what it was.
sub look
{
	my $values = $redis->values_of('profile:');
	foreach my $customer (keys %$values)
	{
		my ($version) = $values->{$customer} =~ /"version": (\d+)/ or next;
		$back++ if $version < ($versions{$customer} // 0);
		$versions{$customer} = $version;
	}
}

my %fault = (
	worker => sub { $node->kill_process($node->worker_pid) },
	relay => sub { my ($rc, $pid) = $node->psql('postgres', 'SELECT relay_pid FROM profile_stream.stat_sinks'); $node->kill_process($pid) },
	server => sub { $node->stop('immediate'); $node->start },
	redis => sub { look(); $redis->restart; %versions = () },
	frozen => sub { $redis->freeze; $node->safe_psql('postgres', 'SELECT pg_sleep(1)'); $redis->thaw },
	kafka => sub { $broker->kill9; $broker->start });

srand($seed);
my $begin = $node->safe_psql('postgres', 'SELECT now()');
$node->create_stream('crm', $broker, 'events', redis => "'" . $redis->socket . "'", redis_ttl => "'1 day'");
my @kinds = sort keys %fault;
foreach my $file (@{ $events->{files} })
{
	# each kind once, then at random
	my $kind = @kinds ? splice(@kinds, int(rand(@kinds)), 1) : (sort keys %fault)[ int(rand(keys %fault)) ];
	my $producer = $broker->start_producing('events', $file);
	$fault{$kind}->();
	$happened{$kind}++;
	$broker->finish_producing($producer);
	look();
}
note(join(', ', map { "$_ $happened{$_}" } sort keys %happened));
ok($node->wait_taken('crm', $events->{events}), 'every event is applied');
ok($node->wait_sink('crm', "backlog = 0 AND state = 'running'"), 'and delivered');
look();
cmp_ok(scalar(keys %versions), '>', 0, 'there are keys');
is($back, 0, 'no version went back');
# what Redis lost when it was killed
$node->safe_psql('postgres', "SELECT profile_stream.resync_sink('crm', 'redis')");
$redis->equals_profiles($node, 'crm', $begin, "seed $seed");
look();
is($back, 0, 'no version went back by the refill');
$node->equals_model('crm', $events, "seed $seed");
$node->is_clean('end');
$node->stop('fast');
$broker->stop;

# a build without hiredis: what does not mention it is the same, and not compiled again
my $dir = PostgreSQL::Test::Utils::tempdir('without');
my $tree = File::Spec->rel2abs("$FindBin::RealBin/../..");
my $output = '';
IPC::Run::run([ 'cp', '-Rp', (map { "$tree/$_" } qw(Makefile profile_stream.control src sql)), $dir ]) or die 'could not copy the tree';
my $bindir = $node->config_data('--bindir');
my $build = "cd '$dir' && for file in \$(grep -li hiredis src/*/*.c); do rm -f \${file%.c}.o; done"
  . " && make -s WITH_REDIS=no PG_CONFIG='$bindir/pg_config' profile_stream.so";
delete @ENV{qw(MAKEFLAGS MAKELEVEL MFLAGS)};
ok(IPC::Run::run([ 'sh', '-c', $build ], '>', \$output, '2>&1'), 'it builds without hiredis') or diag($output);
my $without = ProfileStream::Node->start_new('without', preload => 0);
$without->safe_psql('postgres', "CREATE FUNCTION test_redis(text) RETURNS void AS '$dir/profile_stream', 'ps_test_redis' LANGUAGE c");
$without->fails_like("SELECT test_redis('localhost:6379')", qr/this build of profile_stream has no sink "redis"\nHINT:  Install the client library/, 'without hiredis');
$without->stop('fast');
done_testing();

# Sentinels tell where the primary is. While events flow the primary is killed, and later a healthy one is replaced: the relay
# goes on with the new primary, which has every profile that changes since the old one is none. A Redis of a cluster is refused, with the reason.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Utils;
use ProfileStream::Node qw(event);
use ProfileStream::Redis;
use Test::More;
use Time::HiRes qw(usleep);

my $node = ProfileStream::Node->start_new('main');
my $wrapper = 'FOREIGN DATA WRAPPER profile_stream_redis';
my %redis = map { $_->{port} => $_ } map { ProfileStream::Redis->new } 1 .. 2;
my ($first, $second) = sort { $a <=> $b } keys %redis;
$redis{$second}->command('REPLICAOF', '127.0.0.1', $first);
my @sentinels = map { ProfileStream::Redis->sentinel('mymaster', $redis{$first}, 2) } 1 .. 3;
my $addresses = join(',', map { $_->address } @sentinels);
my $n = 0;

# The port of the primary, as the Sentinels say; waits until it is another one than the given.
sub primary
{
	my ($not) = @_;
	my $port = '';
	for (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
	{
		(undef, $port) = split(/\n/, $sentinels[0]->command('SENTINEL', 'get-master-addr-by-name', 'mymaster'));
		last if $port ne ($not // '') && $redis{$port}->command('ROLE') =~ /^master/;
		usleep(100_000);
	}
	return $port;
}

# Waits until the Sentinels know the replica and each other.
sub wait_known
{
	for (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
	{
		my @known = map { my $s = $_; map { my $info = $s->command('SENTINEL', 'master', 'mymaster'); $info =~ /^$_\n(\d+)/m ? $1 : 0 } 'num-slaves', 'num-other-sentinels' } @sentinels;
		my @linked = grep { $_->command('SENTINEL', 'replicas', 'mymaster') =~ /^master-link-status\nok/m && $_->command('SENTINEL', 'replicas', 'mymaster') !~ /^flags\n\S*(down|disconnected)/m } @sentinels;
		return 1 if join(' ', @known) eq '1 2 1 2 1 2' && @linked == 3;
		usleep(200_000);
	}
	return 0;
}

# Applies an event of each customer.
sub apply
{
	$n++;
	return $node->sql("SELECT DISTINCT unnest(profile_stream.apply_events(array_agg(jsonb_build_object('eventId', 'e$n', 'customerId', 'c' || i, 'eventType', 'seen',
		'timestamp', '2026-01-01T00:00:00Z')))) FROM generate_series(1, 200) i");
}

sub equals
{
	my ($port, $from, $name) = @_;
	return $redis{$port}->equals_profiles($node, 'crm', $from, $name);
}

ok(wait_known(), 'the Sentinels know everybody');
$node->sql("CREATE SERVER cache $wrapper OPTIONS (sentinels '127.0.0.1:1,$addresses', sentinel_service 'mymaster')",
	"CREATE SERVER wrong $wrapper OPTIONS (sentinels '$addresses', sentinel_service 'nobody')",
	"CREATE SERVER away $wrapper OPTIONS (sentinels '127.0.0.1:1', sentinel_service 'mymaster')",
	"CREATE SERVER redis $wrapper OPTIONS (sentinels '127.0.0.1:$first', sentinel_service 'mymaster')");
is($node->sql("SELECT profile_stream.test_redis('cache') FROM generate_series(1, 8)"), "\n" x 7, 'one of the Sentinels is away: the others are asked');
$node->fails_like("SELECT profile_stream.test_redis('wrong')", qr/no Sentinel tells where "nobody" is: it does not know the name\nHINT/, 'a name that no Sentinel knows');
$node->fails_like("SELECT profile_stream.test_redis('away')", qr/no Sentinel tells where "mymaster" is: could not connect to Redis: Connection refused\nHINT/, 'no Sentinel');
$node->fails_like("SELECT profile_stream.test_redis('redis')", qr/no Sentinel tells where "mymaster" is: Redis refused SENTINEL: ERR unknown command/, 'no Sentinel but a Redis');

my $begin = $node->sql('SELECT now()');
$node->sql("SELECT profile_stream.create_stream('crm', bootstrap_servers => '127.0.0.1:1', redis => 'cache', redis_ttl => '1 day')");
is(apply(), 'applied', 'events');
equals($first, $begin, 'delivered');

# the primary is killed while events flow
my $killer = fork() // die;
if ($killer == 0)
{
	usleep(500_000);
	kill('KILL', $redis{$first}{pid});
	POSIX::_exit(0);
}
apply() foreach 1 .. 20;
waitpid($killer, 0);
ok($node->wait_sink('crm', "state = 'retrying' AND hint IS NOT NULL"), 'killed: the sink says so');
is(primary($first), $second, 'killed: the Sentinels choose the other one');
is(apply(), 'applied', 'killed: events');
equals($second, $begin, 'killed: the new primary');

# it comes back as a replica
$redis{$first}->restart;
ok(wait_known(), 'back: as a replica');
equals($second, $begin, 'back: nothing has changed');

# a healthy primary is replaced while events flow
my $from = $n;
like($sentinels[0]->command('SENTINEL', 'failover', 'mymaster'), qr/OK/, 'replaced: asked for');
for (1 .. 600) { apply(); last if $sentinels[0]->command('SENTINEL', 'get-master-addr-by-name', 'mymaster') =~ /\n$first$/; }
is(primary($second), $first, 'replaced: the Sentinels have the first one again');
# what the old one still takes before it is a replica is lost: no Redis is asked for its last writes
for (1 .. 600) { last if $redis{$second}->command('ROLE') =~ /^slave/; usleep(100_000); }
is(apply(), 'applied', 'replaced: events');
equals($first, $begin, 'replaced: the new primary, after ' . ($n - $from) . ' batches');
$node->sql("SELECT profile_stream.drop_stream('crm')");

# a Sentinel with a password
my $closed = ProfileStream::Redis->sentinel('mymaster', $redis{$first}, 1, 'requirepass topsecret');
$node->sql("CREATE SERVER closed $wrapper OPTIONS (sentinels '" . $closed->address . "', sentinel_service 'mymaster')");
$node->fails_like("SELECT profile_stream.test_redis('closed')", qr/no Sentinel tells where "mymaster" is: Redis refused SENTINEL: NOAUTH/, 'a Sentinel that wants a password');
$node->sql("CREATE USER MAPPING FOR postgres SERVER closed OPTIONS (sentinel_password 'wrongsecret')");
$node->fails_like("SELECT profile_stream.test_redis('closed')", qr/Redis refused AUTH: WRONGPASS/, 'a wrong one');
$node->sql("ALTER USER MAPPING FOR postgres SERVER closed OPTIONS (SET sentinel_password 'topsecret')");
is($node->sql("SELECT profile_stream.test_redis('closed')"), '', 'the right one');

# a cluster; the port of its bus would otherwise be that of the server plus 10000, which may be in use
my $cluster = ProfileStream::Redis->new('cluster-enabled' => 'yes', 'cluster-port' => PostgreSQL::Test::Cluster::get_free_port());
$node->fails_like("SELECT profile_stream.test_redis('" . $cluster->address . "')", qr/(CLUSTERDOWN|CROSSSLOT).*HINT:  Redis Cluster is not supported/s, 'a cluster without slots');
$cluster->command('CLUSTER', 'ADDSLOTSRANGE', 0, 16383);
for (1 .. 300) { last if $cluster->command('CLUSTER', 'INFO') =~ /cluster_state:ok/; usleep(100_000); }
$node->fails_like("SELECT profile_stream.test_redis('" . $cluster->address . "')", qr/CROSSSLOT.*HINT:  Redis Cluster is not supported/s, 'a cluster of one');
$node->sql("SELECT profile_stream.create_stream('crm', bootstrap_servers => '127.0.0.1:1', redis => '" . $cluster->address . "')");
ok($node->wait_sink('crm', "state = 'retrying' AND error LIKE '%CROSSSLOT%' AND hint LIKE 'Redis Cluster is not supported%'"), 'a stream says so');

unlike(slurp_file($node->logfile) =~ s/^.*LOG:  statement.*$//mgr, qr/topsecret|wrongsecret/, 'no secret is in the log');
$node->is_clean('end');
$node->stop('fast');
done_testing();

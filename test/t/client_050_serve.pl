# The cache-aside programs of doc/clients.md run. Each reads a profile from Redis when it is there, else from the database, after
# which Redis has it. It writes no key itself, and goes on without Redis.

use strict;
use warnings;

use File::Copy qw(copy);
use FindBin;
use lib "$FindBin::RealBin/../perl";

use IPC::Run ();
use PostgreSQL::Test::Utils;
use ProfileStream::Node qw(event);
use ProfileStream::Redis;
use Test::More;
use Time::HiRes qw(usleep);

my $examples = "$FindBin::RealBin/../../examples";
my $node = ProfileStream::Node->start_new('main', conf => "listen_addresses = '127.0.0.1'\n");
my $redis = ProfileStream::Redis->new;
my $dir = PostgreSQL::Test::Utils::tempdir('clients');
my $npm = qx(npm root -g 2>/dev/null);
chomp($npm);
my %environment = (PGHOST => $node->host, PGPORT => $node->port, PGUSER => 'app', PGDATABASE => 'postgres', PGSSLMODE => 'disable',
	NODE_PATH => join(':', '/usr/share/nodejs', $npm || ()));

$node->sql('CREATE ROLE app LOGIN; GRANT profile_stream_reader TO app');
$node->sql("SELECT profile_stream.create_stream('crm', bootstrap_servers => '127.0.0.1:1', redis => '" . $redis->address . "', redis_ttl => '1 hour')");

# Debian's own Go has its libraries compiled
my ($go) = grep { -x } '/usr/lib/go/bin/go', map { "$_/go" } split(/:/, $ENV{PATH});
copy("$examples/serve.go", "$dir/serve.go") or die $!;
{
	local @ENV{qw(GOPATH GO111MODULE GOCACHE)} = ('/usr/share/gocode', 'off', ($ENV{PS_TEST_CACHE} // $dir) . '/go');
	$node->command_ok([ $go, 'build', '-o', "$dir/serve", "$dir/serve.go" ], 'Go: builds');
}
my @clients = (
	[ bash => 'bash', "$examples/serve.sh" ],
	[ 'redis-py' => '/usr/bin/python3', "$examples/serve.py" ],
	[ 'node-redis' => 'node', "$examples/serve.js" ],
	[ Java => 'java', '-XX:TieredStopAtLevel=1', '-cp', '/usr/share/java/postgresql.jar', "$examples/Serve.java" ],
	[ redigo => "$dir/serve" ]);

{
	local @ENV{ keys %environment } = values %environment;
	$node->command_checks_all([ @$_[ 1 .. $#$_ ] ], 2, [qr/^$/], [qr{examples/[sS]erve}], "$_->[0]: without a Redis it says how to call it") foreach @clients;
}

# What a client prints for ids, with another address of Redis perhaps.
sub run
{
	my ($client, $ids, $address) = @_;
	my ($name, @command) = @$client;
	my ($out, $err) = ('', '');
	push @command, $address // $redis->address;
	push @command, "jdbc:postgresql://127.0.0.1:$environment{PGPORT}/postgres?user=app" if $name eq 'Java';
	local @ENV{ keys %environment } = values %environment;
	IPC::Run::run([@command], '<', \$ids, '>', \$out, '2>', \$err) or diag("$name: $err");
	return $out;
}

foreach my $client (@clients)
{
	my $name = $client->[0];
	my $id = "$name é 'x'";
	my $quoted = $id =~ s/'/''/gr;
	$node->sql("SELECT profile_stream.apply_event(jsonb_build_object('eventId', 'e', 'customerId', '$quoted', 'eventType', 'seen', 'timestamp', '2026-01-01T00:00:00Z'))");
	ok($node->wait_sink('crm', 'backlog = 0', 'redis'), "$name: delivered");
	my $profile = $node->sql("SELECT profile_stream.get_profile('$quoted')");
	is($redis->command('DEL', "profile:$id"), '1', "$name: a key leaves");
	is(run($client, "$id\nnobody\n"), "database $profile\ndatabase unknown\n", "$name: a profile and nobody, from the database");
	my $there = 0;
	for (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
	{
		last if $there = $redis->command('EXISTS', "profile:$id");
		usleep(100_000);
	}
	is($there, 1, "$name: then Redis has it");
	is($redis->command('EXISTS', 'profile:nobody'), '0', "$name: and nobody is not there");
	cmp_ok($redis->command('TTL', "profile:$id"), '>', 3000, "$name: by the relay");
	is(run($client, "$id\n"), "redis $profile\n", "$name: the profile, from Redis");
	is(run($client, "$id\n", '127.0.0.1:1'), "database $profile\n", "$name: without Redis, from the database");
}

$node->is_clean('end');
$node->stop('fast');
done_testing();

# The example programs of doc/clients.md run. Each gets all profiles, then every change, then what changed while it had no
# connection, and after a restart what changed since its bookmark. The last part tests the channels of segments.

use strict;
use warnings;

use File::Basename qw(dirname);
use File::Copy qw(copy);
use FindBin;
use lib "$FindBin::RealBin/../perl";

use JSON::PP;
use PostgreSQL::Test::Utils;
use ProfileStream::Broker;
use ProfileStream::Node;
use Test::More;
use Time::HiRes qw(usleep);

my $examples = "$FindBin::RealBin/../../examples";
my $node = ProfileStream::Node->start_new('main', conf => "autovacuum = off\nlisten_addresses = '127.0.0.1'\n");
my $dir = PostgreSQL::Test::Utils::tempdir('clients');
my $event = 0;
my $produced = 0;

# Applies an event of each customer.
sub apply
{
	foreach my $customer (@_)
	{
		$event++;
		$node->sql(qq(SELECT profile_stream.apply_event('{"eventId": "e$event", "customerId": "$customer", "eventType": "noop", "timestamp": "2026-01-01"}')));
	}
}

# Waits until a client has said such lines, and returns what it said, sorted, without repeats and events; then forgets it.
my %events;    # that each client was told of

sub told
{
	my ($name, @lines) = @_;
	my $said = '';
	for (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
	{
		$said = slurp_file("$dir/$name.out");
		$events{$name}{$1} = 1 while $said =~ s/ by (\S+)$//m;
		last unless grep { $said !~ /^\Q$_\E$/m } @lines;
		usleep(100_000);
	}
	my %lines = map { $_ => 1 } split(/\n/, $said);
	truncate("$dir/$name.out", 0) or die $!;
	return join(', ', sort keys %lines);
}

# Waits until a query is true, of the client's connection.
sub wait_client
{
	my ($condition) = @_;
	return $node->poll_query_until('postgres', "SELECT $condition FROM pg_stat_activity WHERE usename = 'app'") || die 'timed out';
}

my $npm = qx(npm root -g 2>/dev/null);
chomp($npm);
my %environment = (PGHOST => $node->host, PGPORT => $node->port, PGUSER => 'app', PGDATABASE => 'postgres', PGSSLMODE => 'disable',
	NODE_PATH => join(':', '/usr/share/nodejs', $npm || ()));
$node->sql('CREATE ROLE app LOGIN; GRANT profile_stream_reader TO app');

# Debian's own Go has its library compiled
my ($go) = grep { -x } '/usr/lib/go/bin/go', map { "$_/go" } split(/:/, $ENV{PATH});
copy("$examples/listen.go", "$dir/listen.go") or die $!;
{
	local @ENV{qw(GOPATH GO111MODULE GOCACHE)} = ('/usr/share/gocode', 'off', ($ENV{PS_TEST_CACHE} // $dir) . '/go');
	$node->command_ok([ $go, 'build', '-o', "$dir/listen", "$dir/listen.go" ], 'Go: builds');
}
my @clients = (
	[ psql => 'bash', "$examples/listen.sh" ],
	[ psycopg => '/usr/bin/python3', "$examples/listen.py" ],
	[ asyncpg => '/usr/bin/python3', "$examples/listen_async.py" ],
	[ php => '/usr/bin/php', "$examples/listen.php" ],
	[ 'node-postgres' => 'node', "$examples/listen.js" ],
	[ JDBC => 'java', '-XX:TieredStopAtLevel=1', '-cp', '/usr/share/java/postgresql.jar', "$examples/Listen.java" ],
	[ 'lib-pq' => "$dir/listen" ]);

{
	local @ENV{ keys %environment } = values %environment;
	$node->command_checks_all([ @$_[ 1 .. $#$_ ] ], 2, [qr/^$/], [qr{examples/[lL]isten}], "$_->[0]: without a file it says how to call it") foreach @clients;
}

# All clients go through the same steps at once.
my %running;

sub start
{
	foreach my $client (@clients)
	{
		my ($name, @command) = @$client;
		push @command, "$dir/$name.bookmark";
		push @command, "jdbc:postgresql://127.0.0.1:$environment{PGPORT}/postgres?user=app" if $name eq 'JDBC';
		open(my $out, '>', "$dir/$name.out") or die $!;
		my $pid = fork() // die $!;
		if ($pid == 0)
		{
			setpgrp(0, 0);
			@ENV{ keys %environment } = values %environment;
			open(STDIN, '<', '/dev/null') or POSIX::_exit(127);
			open(STDOUT, '>>', "$dir/$name.out") or POSIX::_exit(127);
			open(STDERR, '>>', "$dir/$name.err") or POSIX::_exit(127);
			exec(@command) or POSIX::_exit(127);
		}
		$running{$pid} = $name;
	}
}

# Ends them, with what they have started.
sub stop
{
	kill('TERM', map { -$_ } keys %running);
	waitpid($_, 0) foreach keys %running;
	%running = ();
}

END { local $?; stop(); }

sub all_told
{
	my ($what, @lines) = @_;
	is(told($_->[0], @lines), join(', ', sort @lines), "$_->[0]: $what") foreach @clients;
}

apply(map { "c$_" } 1 .. 20);
start();
all_told('first is told of everything', map { "1 c$_" } 1 .. 20);
wait_client('count(*) FILTER (WHERE state = \'idle\') >= ' . @clients);
apply('c1', 'new');
all_told('is told of what changes', '2 c1', '1 new');
is(join(' ', sort keys %{ $events{ $_->[0] } }), 'e21 e22', "$_->[0]: and by which events") foreach @clients;
$node->sql("SELECT profile_stream.forget_customer('c9')");
all_told('is told of who is forgotten', '0 c9');

# no connection for a while
$node->sql('ALTER ROLE app NOLOGIN');
$node->sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app'");
wait_client('count(*) = 0');
apply('c2');
$node->sql('ALTER ROLE app LOGIN');
# what changed since the bookmark comes again: the bookmark is as old as the last time that it was caught up
all_told('is told of what changed while the connection was gone', '2 c1', '1 new', '2 c2');
apply('c3');
all_told('and of what changes then', '2 c3');

# no client for a while
stop();
wait_client('count(*) = 0');
apply('c4');
start();
all_told('after a restart is told of what changed since its bookmark', '2 c3', '2 c4');
apply('c5');
all_told('and of what changes then', '2 c5');
# a change of many at once, which names no customer
$node->sql("UPDATE profile_stream.materialized_profiles SET version = 7 WHERE customer_id = 'c6';
	NOTIFY " . $node->channel . ", '{\"stream\":\"s\",\"customers\":1,\"events\":1}'");
@clients = grep { $_->[0] ne 'psql' } @clients;
like(told($_->[0], '7 c6'), qr/7 c6/, "$_->[0]: catches up when many changed at once") foreach @clients;
stop();
note(map { "$_->[0]: " . slurp_file("$dir/$_->[0].err") } @clients);

# segment channels, by a stream
my $broker = ProfileStream::Broker->new(mock => !ProfileStream::Broker::available(), topics => [ [ 'events', 1 ] ]);
$node->create_stream('events', $broker, 'events', segment_channel_prefix => "'segment_'");
my $updates = $node->channel;
my $bad = join('', map { "\\u0001" } 1 .. 512);
my $listener = $node->background_psql('postgres');
my $long = 'x' x 60;
my $channel = $node->sql("SELECT profile_stream.segment_channel('segment_', '$long')");
$node->sql("UPDATE profile_stream.materialized_profiles SET segment = 'Gold customers' WHERE customer_id = 'c7'");
$node->sql("UPDATE profile_stream.materialized_profiles SET segment = '$long' WHERE customer_id = 'c8'");
$listener->query_safe(qq(LISTEN $updates; LISTEN "segment_Gold customers"; LISTEN "$channel"; LISTEN segment_unknown));

# Produces an event of each customer, with a type, and returns what was notified: customers by channel, and the payloads.
sub notified
{
	my ($type, @customers) = @_;
	$broker->produce('events', map { $event++; [ 0, 'k', qq({"eventId": "k$event", "customerId": "$_", "eventType": "$type", "timestamp": "2026-01-01"}) ] } @customers);
	$produced += @customers;
	$node->wait_taken('events', $produced) or die 'timed out';
	my (%customers, @payloads);
	# what one commit announces comes at once, but a little later than the commit is visible
	for (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
	{
		my $output = $listener->query('SELECT 1');
		while ($output =~ /^Asynchronous notification "(.*?)" with payload "(.*)" received/mg)
		{
			push @payloads, $2;
			push @{ $customers{$1} }, decode_json($2)->{customerId};
		}
		last if @{ $customers{$updates} // [] } >= @customers;
		usleep(100_000);
	}
	return (\@payloads, join('; ', map { "$_: " . join(' ', sort @{ $customers{$_} }) } sort keys %customers));
}
my ($payloads, $heard) = notified('noop', 'c7', 'c8', 'c9', 'brand-new');
is($heard, join('; ', sort "$updates: brand-new c7 c8 c9", 'segment_Gold customers: c7', "$channel: c8", 'segment_unknown: brand-new c9'),
	'each customer is announced in the channel of its segment too');

# by statement, where the table is not plain
$node->sql('CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$;
	CREATE TRIGGER keep BEFORE UPDATE ON profile_stream.materialized_profiles FOR EACH ROW EXECUTE FUNCTION keep()');
(undef, $heard) = notified('noop', 'c7');
is($heard, "$updates: c7; segment_Gold customers: c7", 'also where a trigger is on the table');

# the longest that there can be: every byte of the ids escaped to six
($payloads, $heard) = notified($bad, $bad);
is(scalar(@$payloads), 2, 'ids of 512 control characters: announced');
is(decode_json($payloads->[0])->{customerId}, "\x01" x 512, 'with the id');
ok(!(grep { length($_) >= 8000 } @$payloads), 'in less than 8,000 bytes');
$node->safe_psql('postgres', "SELECT profile_stream.alter_stream('events', segment_channel_prefix => '')");
$node->wait_state('events', 'running');
(undef, $heard) = notified('noop', 'c7');
is($heard, "$updates: c7", 'without a prefix there are no channels of segments');
$listener->quit;
$node->is_clean('clients');
$node->stop;
done_testing();

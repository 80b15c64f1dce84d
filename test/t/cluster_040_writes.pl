# Events of the same customers come from everywhere at once: from two topics with different numbers of partitions, whose keys
# are no customers or those of others, and by apply_event() and its siblings on the coordinator and on each node, while a
# shard moves. Each counts once, and a server without Citus that got the same events has the same profiles. An event of
# another node's customer is applied there, by the rights of the caller, and never where it could be rolled back here.
# It runs where PS_CITUS names the pg_config of a PostgreSQL with Citus.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Utils;
use ProfileStream::Broker;
use ProfileStream::Citus qw(start_node address counters wait_counters);
use ProfileStream::Node qw(event);
use Test::More;

plan skip_all => 'NOT RUN: PS_CITUS names no PostgreSQL with Citus' unless $ENV{PS_CITUS};
plan skip_all => 'needs a Kafka (KAFKA_HOME)' unless ProfileStream::Broker::available();

my $seed = $ENV{PS_SEED} // int(rand(1_000_000));
srand($seed);
note("seed $seed");
my $broker = ProfileStream::Broker->new(topics => [ [ 'wide', 5 ], [ 'narrow', 2 ], [ 'keyed', 3 ] ]);
my $plain = ProfileStream::Node->start_new('plain');
my ($coordinator, $one, $two) = map { start_node($_) } qw(coordinator one two);
my @nodes = ($coordinator, $one, $two);
$coordinator->sql('CREATE EXTENSION profile_stream', "SELECT citus_set_coordinator_host(@{[address($coordinator)]})",
	map({ "SELECT citus_add_node(@{[address($_)]})" } $one, $two), 'SELECT profile_stream.distribute(8)');

# A customer of a node.
sub customer_of
{
	my ($node, $prefix) = @_;
	return $coordinator->sql("SELECT c FROM (SELECT '$prefix' || i AS c FROM generate_series(1, 100) i) g WHERE get_shard_id_for_distribution_column('profile_stream.materialized_profiles', c)
		IN (SELECT shardid FROM pg_dist_placement JOIN pg_dist_node USING (groupid) WHERE nodeport = @{[$node->port]}) LIMIT 1");
}

sub apply { my ($id, $customer, $function) = @_; return 'SELECT * FROM profile_stream.' . ($function // 'apply_event') . "('" . event($id, $customer, type => 'transaction.completed', payload => '{"amount": 2}', timestamp => $_[3] // '2026-01-01T00:00:00Z') . "')"; }

# Who asks, of which state is the error: a node, and the statement it fails with.
sub fails_with
{
	my ($node, $sql, $state, $pattern, $name) = @_;
	my ($rc, $out, $err) = $node->psql('postgres', $sql, extra_params => [ '-v', 'VERBOSITY=verbose' ]);
	like($err, qr/ERROR:  $state: .*$pattern/s, $name);
}

# one event, from each node to each node
my ($of_one, $of_two) = (customer_of($one, 'first-'), customer_of($two, 'first-'));
foreach my $node (@nodes)
{
	foreach my $customer ($of_one, $of_two)
	{
		is($node->sql(apply($node->name, $customer)), 'applied', $node->name . ' has an event applied where its customer is');
		is($node->sql(apply($node->name, $customer)), 'duplicate', 'and once');
	}
}
is($_->sql("SELECT customer_id, version FROM profile_stream.materialized_profiles WHERE customer_id LIKE 'first-%' ORDER BY 1"), join("\n", map { "$_|3" } sort($of_one, $of_two)), 'all see the profiles') foreach @nodes;
is($coordinator->sql(apply('returned', $of_two, 'apply_event_returning', $coordinator->sql('SELECT now()'))), 'applied|4|{"transaction_count_30d": 1, "total_transaction_value_30d": 2}', 'apply_event_returning() of another node');
is($two->sql(apply('returned', $of_two, 'apply_event_returning')), 'duplicate|4|{"transaction_count_30d": 1, "total_transaction_value_30d": 2}', 'and of this one');
# a batch over all nodes, with what has no customer
my @batch = map { event("batch$_->[0]", $_->[1]) } [ 1, $of_two ], [ 2, $of_one ], [ 3, $of_two ], [ 1, $of_two ];
my $batch = join(', ', map { "'$_'" } @batch, '{}', event('', $of_one));
foreach my $node (@nodes)
{
	my $first = $node == $coordinator ? 'applied' : 'duplicate';
	is($node->sql("SELECT profile_stream.apply_events(ARRAY[NULL, $batch]::jsonb[])"), "{tombstone,$first,$first,$first,duplicate,dead,dead}", $node->name . ': a batch over all nodes');
	is($node->sql('SELECT count(*) FROM profile_stream.dead_letters WHERE length(value) = 2'), '1', 'a message without a customer is a dead letter here');
}
is($one->sql("SELECT count(*) FROM profile_stream.dead_letters WHERE convert_from(value, 'UTF8') ~ '$of_one'"), '3', 'one of a customer is on the node of the customer');
is($one->sql("SELECT profile_stream.apply_events('{}')"), '{}', 'no events');

# not where it could be rolled back here
my $alone = 'customer "[^"]*" is on another node, which commits by itself.*Call apply_events?\(\) in a statement of its own';
fails_with($one, 'BEGIN; ' . apply('not', $of_two), 25001, $alone, 'in a transaction block');
fails_with($one, "BEGIN; SELECT profile_stream.apply_events(ARRAY[$batch]::jsonb[])", 25001, $alone, 'a batch in one');
is($one->sql('BEGIN', apply('own', $of_one), 'ROLLBACK', apply('own', $of_one)), "applied\napplied", 'one of a customer who is here is applied in the transaction');
fails_with($one, "DO \$\$ BEGIN @{[apply('not', $of_two) =~ s/SELECT \*/PERFORM/r]}; EXCEPTION WHEN unique_violation THEN NULL; END \$\$", 25001, $alone, 'in a subtransaction');
fails_with($one, "DO \$\$ BEGIN CREATE TABLE public.t (); @{[apply('not', $of_two) =~ s/SELECT \*/PERFORM/r]}; END \$\$", 25001, $alone, 'after something was written');
is($coordinator->sql("SELECT sum(version) FROM profile_stream.materialized_profiles WHERE customer_id LIKE 'first-%'"), '11', 'nothing of that was applied');

# who may call it here must be able to there
$coordinator->sql('CREATE ROLE app LOGIN', 'CREATE ROLE nobody LOGIN', 'GRANT profile_stream_operator TO app');
$two->sql('SET citus.enable_ddl_propagation = off', 'REVOKE profile_stream_operator FROM app');
is($coordinator->sql('SET ROLE app', apply('app', $of_one)), 'applied', 'an operator');
fails_with($coordinator, 'SET ROLE app; ' . apply('app', $of_two), 42501, 'permission denied', 'who is an operator here only');
fails_with($coordinator, 'SET ROLE nobody; ' . apply('app', $of_two), 42501, 'permission denied', 'nobody');
$two->sql('SET citus.enable_ddl_propagation = off', 'GRANT profile_stream_operator TO app');
is($coordinator->sql('SET ROLE app', apply('app', $of_two)), 'applied', 'an operator of both');

# a node that is down; what the other one has done is done, and nothing twice
$two->stop('immediate');
$batch = join(', ', map { "'" . event('down', $_) . "'" } $of_one, $of_two);
fails_with($coordinator, "SELECT profile_stream.apply_events(ARRAY[$batch]::jsonb[])", '08006', 'applying 1 of the events on \S+:' . $two->port, 'a node that is down');
$two->start;
like($coordinator->sql("SELECT profile_stream.apply_events(ARRAY[$batch]::jsonb[])"), qr/^\{(applied|duplicate),applied\}$/, 'sent again');
$coordinator->fails_like("SELECT profile_stream.lock_customer('$of_one')", qr/customer "$of_one" is on another node.*Call the function on \S+:@{[$one->port]}/s, 'a lock that the node of the customer does not see');

# a handler runs on the node of the customer, with the function of that name there
my $function = q{CREATE FUNCTION public.points(profile jsonb, event jsonb) RETURNS jsonb LANGUAGE sql
	RETURN jsonb_build_object('attributes', jsonb_build_object('points', COALESCE((profile #>> '{attributes,points}')::numeric, 0) + (event #>> '{payload,amount}')::numeric))};
my $handler = "SELECT profile_stream.register_handler('transaction.completed', 'public.points(jsonb,jsonb)')";
$_->sql('SET citus.enable_ddl_propagation = off', $function) foreach $coordinator, $one;
$coordinator->fails_like($handler, qr/did not run on all nodes.*function .?public\.points/s, 'a handler that a node does not have');
$two->sql('SET citus.enable_ddl_propagation = off', $function);
$plain->sql($function);
$_->sql($handler) foreach $coordinator, $plain;
is($_->sql(q{SELECT name, state FROM profile_stream.stat_code WHERE kind = 'handler'}), $plain->sql(q{SELECT name, state FROM profile_stream.stat_code WHERE kind = 'handler'}), 'the handler runs on ' . $_->name) foreach @nodes;

# from everywhere at once: each event comes twice, from two of the ways; the customers are of all nodes
my $events = 3_000;
my @ways = map { [] } 0 .. 4;
foreach my $n (1 .. $events)
{
	my $customer = 'c' . int(rand(200));
	my $amount = int(rand(100));
	my $at = sprintf('2026-01-%02dT%02d:%02d:00Z', 1 + rand(28), rand(24), rand(60));
	my $event = event("w$n", $customer, type => 'transaction.completed', timestamp => $at, payload => qq({"amount": $amount}));
	my @key = ('', $customer, 'c' . int(rand(200)));
	my $first = int(rand(@ways));
	foreach my $way ($first, ($first + 1 + int(rand($#ways))) % @ways)
	{
		push @{ $ways[$way] }, $way < 2 ? [ int(rand($way ? 2 : 5)), $key[ int(rand(3)) ], $event ] : $event;
	}
}
$_->create_stream('wide', $broker, 'wide', workers => 2, batch_size => 50) foreach $coordinator, $plain;
$_->create_stream('narrow', $broker, 'narrow', batch_size => 50) foreach $coordinator, $plain;

# Statements that apply events, one by one and in batches.
sub statements
{
	my @events = map { "'$_'" } @_;
	my $statements = '';
	while (@events)
	{
		my @some = splice(@events, 0, rand() < 0.5 ? 1 : 10);
		$statements .= @some == 1 ? "SELECT profile_stream.apply_event($some[0]);\n" : 'SELECT unnest(profile_stream.apply_events(ARRAY[' . join(', ', @some) . "]::jsonb[]));\n";
	}
	return $statements;
}
my @files = map { my $file = "@{[PostgreSQL::Test::Utils::tempdir('rows')]}/rows"; append_to_file($file, join('', ProfileStream::Broker::lines(@$_))); $file } @ways[ 0, 1 ];
my @producers = map { $broker->start_producing(('wide', 'narrow')[$_], $files[$_]) } 0, 1;
my @statements = map { statements(@{ $ways[ 2 + $_ ] }) } 0 .. 2;
my @inputs = @statements;
my @outputs = ('') x 3;
my @sessions = map { IPC::Run::start([ 'psql', '-XAtq', '-d', $nodes[$_]->connstr('postgres') ], '<', \$inputs[$_], '>', \$outputs[$_], '2>&1') } 0 .. 2;
my ($shard) = $coordinator->sql("SELECT shardid FROM pg_dist_shard JOIN pg_dist_placement USING (shardid) JOIN pg_dist_node USING (groupid)
	WHERE logicalrelid = 'profile_stream.materialized_profiles'::regclass AND nodeport = @{[$one->port]} LIMIT 1");
$coordinator->sql("SELECT citus_move_shard_placement($shard, @{[address($one)]}, @{[address($two)]}, 'block_writes')");
$broker->finish_producing($_) foreach @producers;
$sessions[$_]->finish foreach 0 .. 2;
# what a session met while the shard moved, it sends again
my @errors = map { grep { /ERROR:/ } split(/\n/) } @outputs;
note("while the shard moved: $_") foreach @errors;
is(scalar(grep { !/is on another node|does not exist|could not find the source placement/ } @errors), 0, 'only a shard that moves fails a call') or diag(join("\n", @errors));
if (@errors)
{
	like($nodes[$_]->sql($statements[$_]), qr/^((applied|duplicate)\n?)+$/, $nodes[$_]->name . ' applies its events when the shard has moved') foreach 0 .. 2;
}
$plain->sql(statements(map { @$_ } @ways[ 2 .. 4 ]));
foreach my $n (0, 1)
{
	ok($plain->wait_taken(('wide', 'narrow')[$n], scalar(@{ $ways[$n] })), 'the measure has read everything');
}
my @total = wait_counters($plain, @nodes);
my $applied = grep { $_ eq 'applied' } map { split(/\n/) } @outputs;
cmp_ok($total[0] + $applied, @errors ? '<=' : '==', $events, 'each event is applied once');
my $profiles = q{SELECT customer_id, version, total_balance, event_counts, attributes, first_event_at, watermark, last_transaction_at,
	profile_stream.metric_value(customer_id, 'total_transaction_value_30d', '2026-01-30') FROM profile_stream.materialized_profiles WHERE customer_id ~ '^c\d' ORDER BY customer_id COLLATE "C"};
is($coordinator->sql($profiles), $plain->sql($profiles), 'the profiles are those of one server');

# event ids are remembered where the shard is now, too
is($_->sql('SELECT md5(key) FROM profile_stream_internal.event_id_keys'), $coordinator->sql('SELECT md5(key) FROM profile_stream_internal.event_id_keys'), $_->name . ' knows event ids by the key of all nodes') foreach $one, $two;
like($coordinator->sql($statements[0]), qr/^(duplicate\n?)+$/, 'an event that comes again after a move is a duplicate');

# keys are customers, and nodes go by them alone: those that are wrong, and messages without one, are dead letters, each once
my @rows = map {
	my $customer = 'c' . int(rand(200));
	my $kind = rand();
	[ int(rand(3)), $kind < 0.7 ? $customer : $kind < 0.9 ? 'c' . int(rand(200)) : '', event("k$_", $customer, type => 'transaction.completed', payload => '{"amount": 3}') ]
} 1 .. 2_000;
$_->create_stream('keyed', $broker, 'keyed', message_key => "'customer'", start_from => "'2020-01-01'", batch_size => 50) foreach $coordinator, $plain;
append_to_file("$files[0].keyed", join('', ProfileStream::Broker::lines(@rows)));
my $producer = $broker->start_producing('keyed', "$files[0].keyed");
my $other = $coordinator->sql("SELECT shardid FROM pg_dist_shard JOIN pg_dist_placement USING (shardid) JOIN pg_dist_node USING (groupid)
	WHERE logicalrelid = 'profile_stream.materialized_profiles'::regclass AND nodeport = @{[$two->port]} AND shardid <> $shard LIMIT 1");
$coordinator->sql("SELECT citus_move_shard_placement($other, @{[address($two)]}, @{[address($one)]}, 'force_logical')");
$broker->finish_producing($producer);
ok($plain->wait_taken('keyed', scalar(@rows)), 'the measure has read what has keys');
wait_counters($plain, @nodes);
my $letters = q{SELECT errors, customer_id, partition, kafka_offset FROM profile_stream.dead_letters WHERE topic = 'keyed'};
my @refused = sort(split(/\n/, $plain->sql($letters)));
cmp_ok(scalar(@refused), '>', 300, 'there are messages with a wrong key or none');
is(join("\n", sort map { split(/\n/, $_->sql($letters)) } @nodes), join("\n", @refused), 'each of them is one dead letter');
is($coordinator->sql($profiles), $plain->sql($profiles), 'and the others are in the profiles');
# they are applied where their customers are
my $retry = q{SELECT applied, duplicates, failed, kept, blocked FROM profile_stream.retry_dead_letters('keyed')};
fails_with($one, "BEGIN; $retry", 25001, 'retry_dead_letters\(\) of customers of other nodes cannot run inside a transaction block', 'in a transaction block');
$two->stop('immediate');
fails_with($one, $retry, '08006', 'connection to the remote node', 'while a node is down');
$two->start;
is(join("\n", sort map { split(/\n/, $_->sql($letters)) } @nodes), join("\n", @refused), 'and all letters stay');
my @retried = (0) x 5;
foreach my $node (@nodes)
{
	my @of_node = split(/\|/, $node->sql($retry));
	$retried[$_] += $of_node[$_] foreach 0 .. $#retried;
}
is(join('|', @retried), $plain->sql($retry), 'retry_dead_letters() on the nodes, added up');
cmp_ok($retried[0], '>', 300, 'applies them');
is($coordinator->sql($profiles), $plain->sql($profiles), 'and the profiles are those of one server');
is(join('', map { $_->sql($letters) } @nodes), '', 'no letter is left');
is($_->sql(q{SELECT count(*) FROM unnest(profile_stream_internal.sharded_tables()) t WHERE pg_relation_size(t) > 0}), '0', $_->name . ': no row outside of the shards') foreach @nodes;

$_->stop('immediate') foreach @nodes;
$plain->stop('fast');
$broker->stop;
done_testing();

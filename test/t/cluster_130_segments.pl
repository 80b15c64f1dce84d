# Segments by rule where two servers share the profiles as nodes of Citus do: live ones while events are applied and shards move,
# also while a new segment sees all customers; a segment that is blocked on one node, or dropped while a shard moves; refreshes;
# counts; erasure. A server that has all customers and got the same events is the measure. cluster_140 has Citus itself.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Utils;
use ProfileStream::Node qw(event);
use ProfileStream::Shards qw(make_shards give_shard run_call);
use Test::More;

my $seed = $ENV{PS_SEED} // int(rand(1_000_000));
srand($seed);
my ($plain, $one, $two) = map { ProfileStream::Node->start_new($_) } qw(plain one two);
plan skip_all => 'needs a build with FAILPOINTS=yes' unless $plain->has_failpoints;
my @nodes = ($one, $two);
my $customers = 120;
my $calls = 0;

make_shards(@nodes);
$_->sql("CREATE FUNCTION public.sweep(max_customers int) RETURNS int AS '\$libdir/profile_stream', 'ps_sweep_segments' LANGUAGE c STRICT VOLATILE") foreach $plain, @nodes;

sub shard_of
{
	my ($customer) = @_;
	return $plain->sql("SELECT (hashtext('$customer' COLLATE \"C\")::bigint + 2147483648) / 1073741824");
}
my %shard = map { $_ => shard_of($_) } map { "c$_" } 1 .. $customers;

# The server that has a shard, and the other one.
sub owner_and_receiver
{
	my ($shard) = @_;
	return $one->sql("SELECT groupid = 1 FROM pg_dist_placement WHERE shardid = @{[100 + $shard]}") eq 't' ? ($one, $two) : ($two, $one);
}

sub move
{
	my ($shard) = @_;
	give_shard(owner_and_receiver($shard), $shard);
	return;
}

# Applies events on the measure, and each where its customer is.
my $n = 0;
my $now = time() * 1000;

sub apply
{
	my @events = map { my ($customer, $type, $payload) = @$_; [ $customer, event('e' . $n++, $customer, type => $type, payload => $payload, timestamp => $now) ] } @_;
	my %of;
	push @{ $of{'plain'} }, $_->[1] foreach @events;
	foreach my $event (@events)
	{
		my ($owner) = owner_and_receiver($shard{ $event->[0] });
		push @{ $of{ $owner->name } }, $event->[1];
	}
	foreach my $node ($plain, @nodes)
	{
		my @mine = @{ $of{ $node->name } // [] } or next;
		is($node->sql("SELECT string_agg(DISTINCT o, ' ') FROM unnest(profile_stream.apply_events(ARRAY[@{[join(', ', map { qq('$_') } @mine)]}]::jsonb[])) o"), 'applied', 'events of ' . $node->name)
	}
	return;
}

sub some_events
{
	my ($events) = @_;
	apply(map { [ 'c' . (1 + int(rand($customers))), 'transaction.completed', sprintf('{"amount": %d, "transactionType": "%s"}', 1 + rand(200), rand() < 0.5 ? 'credit' : 'debit') ] } 1 .. $events);
	return;
}

# A call on all servers, on the nodes as the coordinator sends it.
sub call
{
	my ($function, $json, @where) = @_;
	my $first = !@where;
	$calls++ if $first || $where[0] == $one;
	if ($first)
	{
		my $arguments = $plain->sql("SELECT string_agg(format('%I => %L', key, value), ', ') FROM jsonb_each_text('$json')");
		$plain->sql("SELECT profile_stream.$function($arguments)");
	}
	run_call($_, $calls, $json, '{1,1,1}', $function) foreach $first ? @nodes : @where;
	return;
}

sub sweep_all
{
	foreach my $node ($plain, @nodes)
	{
		1 while $node->sql('SELECT public.sweep(50)') > 0;
	}
	return;
}

sub rows_of
{
	my ($table, $columns) = @_;
	return sort map { split(/\n/, $_->sql("SELECT public.rows_of('$table', '$columns')")) } @nodes;
}

sub equals_plain
{
	my ($name) = @_;
	foreach my $table ([ 'segment_members', 'segment, customer_id' ], [ 'segment_changes', 'customer_id, kind, from_segment, to_segment, quiet, event_id' ])
	{
		my @rows = rows_of(@$table);
		my @rows_of_plain = sort(split(/\n/, $plain->sql("SELECT ROW($table->[1])::text FROM profile_stream.$table->[0]")));
		is_deeply(\@rows, \@rows_of_plain, "$name: rows of $table->[0]");
	}
	is($_->sql('SELECT count(*) FROM unnest(profile_stream_internal.sharded_tables()) t WHERE pg_relation_size(t) > 0'), '0', "$name: no row outside of the shards of " . $_->name) foreach @nodes;
	return;
}

# profiles, and a segment that has not seen them
apply(map { [ "c$_", 'account.opened', sprintf('{"initialBalance": %d}', 10 * $_) ] } 1 .. $customers);
call('create_segment', '{"name": "rich", "predicate": "total_balance > 600", "quiet_period": "0"}');
is($_->sql("SELECT evaluate FROM profile_stream.stat_code WHERE name = 'rich'"), 'live', 'live on ' . $_->name) foreach @nodes;
call('create_segment', '{"name": "buys", "predicate": "transaction_count_30d >= 2", "quiet_period": "0"}');

# shards move while both see their customers: to a node that has seen its own, and to one that has not
$plain->sql('SELECT public.sweep(1000)');
is($one->sql('SELECT public.sweep(10)'), '10', 'some customers were seen');
move(0);
sweep_all();
equals_plain('a shard moved while a segment saw its customers');
is($_->sql('SELECT count(*) FROM profile_stream_internal.segments WHERE filled_to IS NOT NULL'), '0', $_->name . ' knows that all were seen') foreach @nodes;
cmp_ok($plain->sql('SELECT count(*) FROM profile_stream.segment_members'), '>', 50, 'there are members');

# events, with moves in between; a shard goes away and comes back
foreach my $shard (0, 1, 0, 2, 3)
{
	some_events(40);
	move($shard);
	some_events(40);
	sweep_all();
	equals_plain("shard $shard moved");
}

# nodes number their segments by themselves, so that rows of a shard that moves know others
$one->sql("SELECT nextval('profile_stream_internal.segments_segment_id_seq') FROM generate_series(1, 40)");
call('create_segment', '{"name": "spends", "predicate": "total_transaction_value_30d > 150", "quiet_period": "0"}');
sweep_all();
some_events(60);
foreach my $shard (0 .. 3)
{
	move($shard);
	some_events(30);
}
equals_plain('before they are seen on the other node');
sweep_all();
equals_plain('other numbers of segments');

# a moment after which a segment changes moves with the shard
call('create_segment', '{"name": "idle", "predicate": "last_transaction_at < now() - make_interval(days => 10)", "quiet_period": "0"}');
sweep_all();
cmp_ok($plain->sql('SELECT count(*) FROM profile_stream_internal.segment_checks'), '>', 20, 'checks are due some time');
move($_) foreach 0 .. 3;
sweep_all();
my @checks = rows_of('segment_checks', 'customer_id');
is(scalar(@checks), $plain->sql('SELECT count(*) FROM profile_stream_internal.segment_checks'), 'checks are in the shards');

# a segment that is dropped while a shard is on its way has no members left, and one of the same name begins anew
my ($has) = grep { (owner_and_receiver($_))[0] == $two } 0 .. 3;
$plain->sql("SELECT profile_stream.drop_segment('rich')");
call('drop_segment', '{"name": "rich"}', $one);
move($has);
run_call($two, $calls, '{"name": "rich"}', '{1,1,1}', 'drop_segment');
sweep_all();
equals_plain('a segment was dropped');
is(scalar(grep { /rich/ } rows_of('segment_members', 'segment')), 0, 'nobody is in it');
call('create_segment', '{"name": "rich", "predicate": "total_balance > 900", "quiet_period": "0"}');
sweep_all();
equals_plain('created again');

# segments in batch, of which each node refreshes those of its shards, a few customers at a time
sub refresh_all
{
	$plain->sql('CALL profile_stream.refresh_segments()');
	return map { $_->sql('CALL profile_stream_internal.refresh_segments(NULL, 7, NULL)') } @nodes;
}

sub counts_equal_plain
{
	my ($name) = @_;
	my %sums;
	foreach my $row (rows_of('segment_day_counts', 'kind, segment, customers'))
	{
		my ($what, $count) = $row =~ /^\((.*),(\d+)\)$/;
		$sums{$what} += $count;
	}
	is(join(' ', map { "$_=$sums{$_}" } sort keys %sums), join(' ', sort split(/\n/, $plain->sql("SELECT kind || ',' || segment || '=' || customers FROM profile_stream.segment_counts"))), "$name: counts");
	return;
}
call('create_segment', '{"name": "pairs", "predicate": "version % 2 = 0 AND total_transaction_value_30d > 50", "evaluate": "batch", "quiet_period": "0"}');
refresh_all();
equals_plain('in batch');
counts_equal_plain('in batch');
some_events(60);
move(1);
some_events(60);
refresh_all();
equals_plain('in batch, after a move');
counts_equal_plain('after a move');

# erasure
my $gone = 'c100';
$plain->sql("SELECT profile_stream.forget_customer('$gone')");
$_->sql("SELECT profile_stream_internal.run_on_this_node('profile_stream.forget_customer(''$gone'')')") foreach @nodes;
equals_plain('a customer is forgotten');
is(scalar(grep { /\b$gone\b/ } map { rows_of($_, 'customer_id') } qw(segment_members segment_changes segment_checks)), 0, 'and no table has it');

# a segment whose predicate fails on one node is blocked there alone: in a shard that leaves it the members become right
my ($rock) = grep { $shard{$_} == 0 } sort keys %shard;
my ($stone) = grep { $shard{$_} == 2 && $_ ne $gone } sort keys %shard;
foreach my $shard (0, 2) { my ($owner) = owner_and_receiver($shard); move($shard) if $owner == $two }
call('create_segment', '{"name": "fails", "predicate": "total_balance > 5000 AND 100 / (total_balance - 77777) < 1", "quiet_period": "0"}');
sweep_all();
apply([ $rock, 'account.opened', sprintf('{"initialBalance": %s}', $plain->sql("SELECT 77777 - total_balance FROM profile_stream.profiles WHERE customer_id = '$rock'")) ]);
apply([ $stone, 'account.opened', '{"initialBalance": 6000}' ]);
is(join(' ', map { $_->sql("SELECT state FROM profile_stream.stat_code WHERE name = 'fails'") } @nodes), 'blocked ok', 'blocked on one node');
is(join(' ', grep { /fails/ } rows_of('segment_members', 'segment, customer_id')), '', 'whose members stay');
move(2);
sweep_all();
is(join(' ', grep { /fails/ } rows_of('segment_members', 'segment, customer_id')), "(fails,$stone)", 'elsewhere they change');
move(2);
call('alter_segment', '{"name": "fails", "predicate": "total_balance > 5000"}');
sweep_all();
is(join(' ', grep { /fails/ } rows_of('segment_members', 'segment, customer_id')), join(' ', sort("(fails,$rock)", "(fails,$stone)")), 'and all of them when it begins again');

# what cannot be evaluated on each shard by itself is refused before any node has it
foreach my $wrong ([ 'EXISTS (SELECT FROM profile_stream.segment_members)', qr/cannot have a subquery/ ], [ 'no_column > 1', qr/column "no_column" does not exist/ ], [ 'profile_stream.profiles.version > 1', qr/(missing|invalid reference to) FROM-clause entry/ ])
{
	$one->fails_like("SELECT profile_stream_internal.run_coordinator_call(@{[$calls + 1]}, current_user, 'create_segment', ARRAY['wrong', \$\$$wrong->[0]\$\$, NULL, '1 day'], '{1,1,1}')", $wrong->[1], $wrong->[0]);
}

$_->stop('fast') foreach $plain, @nodes;
done_testing();

# Segments by rule on profiles that Citus distributes: live ones beside streams whose workers are killed and whose shards move, also
# while a new segment sees all customers; segments in batch on all nodes; counts; a node that is down; erasure; undistribute().
# A server that reads the whole topic is the measure. It runs where PS_CITUS names the pg_config of a PostgreSQL with Citus.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Utils;
use ProfileStream::Broker;
use ProfileStream::Citus qw(start_node join_nodes nodes_with_shards produce_part equals_plain move_of_shard start_move);
use ProfileStream::Node qw(event);
use Test::More;

plan skip_all => 'NOT RUN: PS_CITUS names no PostgreSQL with Citus' unless $ENV{PS_CITUS};
plan skip_all => 'needs a Kafka (KAFKA_HOME)' unless ProfileStream::Broker::available();

my $seed = $ENV{PS_SEED} // int(rand(1_000_000));
srand($seed);
my $moves = 4;
my $kills = 4;
my $parts = 4 + $moves + $kills;
my $events = ProfileStream::Node::generate(seed => $seed, events => 1_000 * $parts, customers => 200, partitions => 4, repeats => 0, parts => $parts);
my $broker = ProfileStream::Broker->new(topics => [ [ 'events', 4 ] ]);
my $plain = ProfileStream::Node->start_new('plain');
my ($coordinator, $one, $two) = map { start_node($_) } qw(coordinator one two);
my @nodes = ($coordinator, $one, $two);
my $cluster = { nodes => \@nodes, plain => $plain, files => $events->{files}, produced => 0 };

join_nodes($cluster, 8);

# Runs a statement on the coordinator, and on the measure.
sub both
{
	my ($sql) = @_;
	$_->sql($sql) foreach $coordinator, $plain;
	return;
}

# Waits until segments have seen all customers of all shards, on all servers.
sub wait_seen
{
	my ($name) = @_;
	foreach my $node ($plain, @nodes)
	{
		ok($node->poll_query_until('postgres', 'SELECT NOT EXISTS (SELECT FROM profile_stream_internal.segments WHERE filled_to IS NOT NULL)'), "$name: seen on " . $node->name);
	}
	my $own = 'f.node = (SELECT p.groupid FROM pg_dist_placement p WHERE p.shardid = get_shard_id_for_distribution_column(\'profile_stream_internal.segment_fills\', f.slot))';
	ok($coordinator->poll_query_until('postgres', "SELECT count(*) = 8 FROM (SELECT slot, node FROM profile_stream_internal.segment_fills WHERE filled_to IS NULL OFFSET 0) f WHERE $own"), "$name: each shard by the node that has it");
	return;
}

# no two changes of a customer and a segment in the same direction
my $twice = <<'END';
SELECT count(*) FROM (SELECT to_segment IS NOT NULL AS enters, lag(to_segment IS NOT NULL) OVER (PARTITION BY customer_id, COALESCE(from_segment, to_segment) ORDER BY change_id) AS before
	FROM profile_stream.segment_changes WHERE kind = 'rule') c WHERE enters = before OR (before IS NULL AND NOT enters)
END
my $members = 'SELECT segment, customer_id FROM profile_stream.segment_members ORDER BY 1, 2';
my $once = "SELECT customer_id, from_segment, to_segment FROM profile_stream.segment_changes WHERE 'busy' IN (from_segment, to_segment) ORDER BY 1";

sub segments_equal_plain
{
	my ($name) = @_;
	equals_plain($cluster, $name);
	wait_seen($name);
	foreach my $node (@nodes)
	{
		is($node->sql($members), $plain->sql($members), "$name: members, on " . $node->name);
		is($node->sql($once), $plain->sql($once), "$name: changes of a segment that nobody leaves, on " . $node->name);
	}
	is($coordinator->sql($twice), '0', "$name: nobody enters or leaves twice");
	return;
}

both("SELECT profile_stream.create_segment('busy', 'version >= 8', quiet_period => '0')");
both("SELECT profile_stream.create_segment('rich', 'total_balance > 1000', quiet_period => '0')");
is($_->sql('SELECT name, code, owner, state, evaluate FROM profile_stream.stat_code ORDER BY 1'), $plain->sql('SELECT name, code, owner, state, evaluate FROM profile_stream.stat_code ORDER BY 1'), 'segments on ' . $_->name) foreach @nodes;
$_->create_stream('crm', $broker, 'events', dedupe_retention => "'0'", workers => 2, batch_size => 100, segment_channel_prefix => "'seg_'") foreach $coordinator, $plain;
$broker->produce_file('events', produce_part($cluster));
segments_equal_plain('two nodes');
cmp_ok($plain->sql('SELECT count(*) FROM profile_stream.segment_members'), '>', 20, 'there are members');

# a segment that is created while events flow and shards move
my $producer = $broker->start_producing('events', produce_part($cluster));
both("SELECT profile_stream.create_segment('web', 'preferred_channel = ''web''', quiet_period => '0')");
$coordinator->sql((move_of_shard($cluster, $one, 'block_writes'))[0]);
$broker->finish_producing($producer);
segments_equal_plain('a new segment while a shard moves');

foreach my $number (1 .. $moves)
{
	$producer = $broker->start_producing('events', produce_part($cluster));
	$coordinator->sql((move_of_shard($cluster, $number % 2 ? $two : $one, $number % 3 ? 'force_logical' : 'block_writes'))[0]);
	$broker->finish_producing($producer);
	segments_equal_plain("move $number");
}
foreach my $number (1 .. $kills)
{
	my $node = (nodes_with_shards($cluster))[ $number % 2 ];
	$producer = $broker->start_producing('events', produce_part($cluster));
	my $pid = $node->stream_pid('crm');
	both("SELECT profile_stream.alter_segment('rich', predicate => 'total_balance > @{[1000 + $number]}')");
	$node->kill_process($pid) if $pid;
	$broker->finish_producing($producer);
	segments_equal_plain("kill $number");
}

# in batch, on any node for all of them, also while a shard moves; counts of the day
sub refreshed_equals_plain
{
	my ($name, $node) = @_;
	$_->sql('CALL profile_stream.refresh_segments()') foreach $plain, $node;
	is($coordinator->sql($members), $plain->sql($members), "$name: members");
	my $counts = 'SELECT day, kind, segment, customers FROM profile_stream.segment_counts ORDER BY 1, 2, 3';
	is($_->sql($counts), $plain->sql($counts), "$name: counts, on " . $_->name) foreach @nodes;
	is($coordinator->sql($twice), '0', "$name: nobody enters or leaves twice");
	return;
}
both("SELECT profile_stream.create_segment('pairs', 'version % 2 = 0', evaluate => 'batch')");
refreshed_equals_plain('on a node', $two);
$coordinator->sql('CREATE ROLE analyses LOGIN IN ROLE profile_stream_bi', 'CREATE ROLE operates LOGIN IN ROLE profile_stream_operator');
my $counted = 'SELECT kind, segment, customers FROM profile_stream.segment_counts ORDER BY 1, 2';
is($_->safe_psql('postgres', $counted, extra_params => [ '-U', 'analyses' ]), $plain->sql($counted), 'an analyst reads counts on ' . $_->name) foreach @nodes;
$broker->produce_file('events', produce_part($cluster));
equals_plain($cluster, 'more events');
my $output = '';
my $move = start_move($cluster, (move_of_shard($cluster, $two, 'force_logical'))[0], \$output);
$one->safe_psql('postgres', 'CALL profile_stream.refresh_segments(batch => 10)', extra_params => [ '-U', 'operates' ]);
ok($move->finish, 'a shard moved meanwhile') or diag($output);
refreshed_equals_plain('by an operator while a shard moves', $one);
$coordinator->sql("INSERT INTO profile_stream_internal.segment_day_counts SELECT slot, day - 1, kind, segment, customers, counted_at, shards FROM profile_stream_internal.segment_day_counts WHERE slot <> (SELECT min(slot) FROM profile_stream_internal.segment_day_counts)");
is($coordinator->sql('SELECT count(DISTINCT day) FROM profile_stream.segment_counts'), '1', 'a day that not all shards have counted is not shown');
$coordinator->sql("DELETE FROM profile_stream_internal.segment_day_counts WHERE day < (now() AT TIME ZONE 'UTC')::date");

# an error of a predicate on one node comes to whoever refreshes, and members stay
both("SELECT profile_stream.create_segment('fails', '1 / (version - version % 1000000) > 0', evaluate => 'batch')");
my $stderr;
$one->psql('postgres', "CALL profile_stream.refresh_segments('fails')", stderr => \$stderr);
like($stderr, qr/segments could not be refreshed on all nodes.*segment "fails" on 127\.0\.0\.1:\d+: division by zero/s, 'a predicate that fails');
both("SELECT profile_stream.drop_segment('fails')");
$two->stop('immediate');
$one->fails_like('CALL profile_stream.refresh_segments()', qr/refresh_segments\(\) did not run on all nodes|connection/, 'a node that is down');
$two->start;

# other views of members
$coordinator->sql("SELECT profile_stream.create_profile_view('public.everything', NULL, NULL)");
$plain->sql("SELECT profile_stream.create_profile_view('public.everything', NULL, NULL)");
my $joined = "SELECT m.segment, count(*), sum(p.version) FROM %s p JOIN profile_stream.segment_members m USING (customer_id) GROUP BY 1 ORDER BY 1";
foreach my $view ('public.everything', 'profile_stream.bi_profiles')
{
	my $sql = sprintf($joined, $view);
	$sql =~ s/sum\(p.version\)/sum(p.events)/ if $view =~ /bi/;
	is($_->sql($sql), $plain->sql($sql), "members and $view on " . $_->name) foreach @nodes;
}

# notifications come from the node of the customer, also on the channel of a segment
my $heard = $coordinator->sql("SELECT customer_id FROM profile_stream.materialized_profiles WHERE get_shard_id_for_distribution_column('profile_stream.materialized_profiles', customer_id)
	IN (SELECT shardid FROM pg_dist_placement JOIN pg_dist_node USING (groupid) WHERE nodeport = @{[$one->port]}) LIMIT 1");
my $listener = $one->background_psql('postgres', on_error_stop => 1);
$listener->query_safe('LISTEN "' . $one->sql("SELECT profile_stream.notification_channel('segment_changes')") . '"; LISTEN seg_unknown');
both("SELECT profile_stream.create_segment('named', 'first_name = ''Zoe''', quiet_period => '0')");
wait_seen('named');
$broker->produce('events', [ 0, $heard, event('zoe', $heard, type => 'customer.profile.updated', payload => '{"firstName": "Zoe"}', timestamp => $events->{until}) ]);
$cluster->{produced}++;
segments_equal_plain('one more event');
my $told = $listener->query('SELECT 1');
like($told, qr/"$heard".*"named"/, 'who entered is announced on the node of the customer');
like($told, qr/"seg_unknown" with payload .*"$heard"/, 'and the update on the channel of the segment');
$listener->quit;

# dropped, and created again
both("SELECT profile_stream.drop_segment('web')");
is($_->sql("SELECT count(*) FROM profile_stream.segment_members WHERE segment = 'web'"), '0', 'nobody is in a segment that was dropped, on ' . $_->name) foreach @nodes;
both("SELECT profile_stream.create_segment('web', 'preferred_channel = ''web''', quiet_period => '0')");
wait_seen('created again');
is($coordinator->sql($members), $plain->sql($members), 'created again: members');

# erasure
my $customer = $plain->sql("SELECT customer_id FROM profile_stream.segment_members WHERE segment = 'busy' ORDER BY 1 LIMIT 1");
my $exported = "SELECT jsonb_path_query_array(e, '\$.segments[*].segment'), jsonb_array_length(e -> 'segmentChanges') > 0 FROM profile_stream.export_customer('$customer') e";
is($_->sql($exported), $plain->sql($exported), 'export_customer() on ' . $_->name) foreach @nodes;
both("SELECT profile_stream.forget_customer('$customer')");
is($_->sql("SELECT count(*) FROM profile_stream.segment_members WHERE customer_id = '$customer'"), '0', 'forgotten on ' . $_->name) foreach @nodes;
is($_->sql("SELECT count(*) FROM profile_stream.segment_changes WHERE customer_id = '$customer'"), '0', 'with its changes on ' . $_->name) foreach @nodes;

# what each shard cannot evaluate by itself is refused, and no node has it
$coordinator->fails_like("SELECT profile_stream.create_segment('sub', 'EXISTS (SELECT FROM profile_stream.segment_members)')", qr/cannot have a subquery/, 'a subquery');
$coordinator->fails_like("SELECT profile_stream.create_segment('sub', 'no_such > 1')", qr/column "no_such" does not exist/, 'a column that does not exist');
$coordinator->fails_like("SELECT profile_stream.create_segment('sub', 'profile_stream.profiles.version > 1')", qr/(missing|invalid reference to) FROM-clause entry/, 'the view by its schema');
$coordinator->fails_like("SELECT profile_stream.alter_segment('pairs', owner => 'analyses')", qr/role "analyses" has no right to read profile_stream.profiles/, 'an owner who may not read');
$one->fails_like("SELECT profile_stream.create_segment('sub', 'true')", qr/is called on the coordinator/, 'on another node');
is($coordinator->sql('SELECT profile_stream.confirm_code()'), '0', 'nothing is to be confirmed');
is($_->sql("SELECT count(*) FROM profile_stream.stat_code WHERE name = 'sub'"), '0', 'which is not on ' . $_->name) foreach @nodes;

# back on one server
both("SELECT profile_stream.drop_stream('crm')");
$coordinator->sql('SELECT profile_stream.undistribute()');
is($coordinator->sql($members), $plain->sql($members), 'undistribute(): members');
$_->sql("SELECT profile_stream.apply_event('" . event('last', $customer, type => 'session.started', payload => '{"channel": "web"}') . "')") foreach $coordinator, $plain;
is($coordinator->sql($members), $plain->sql($members), 'undistribute(): members go on');
is($one->sql('SELECT count(*) FROM profile_stream_internal.segments'), '0', 'and a node has no segment');

$_->stop('immediate') foreach @nodes;
$plain->stop('fast');
$broker->stop;
done_testing();

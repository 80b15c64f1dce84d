# Scores on profiles that Citus distributes are those of one server, with the default scores, other settings and a function of
# the user. refresh_scores() on any node refreshes all of them, each by itself, while a shard moves, and after a node was killed.
# Changes are told where the customer is. It runs where PS_CITUS names the pg_config of a PostgreSQL with Citus.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use IPC::Run ();
use PostgreSQL::Test::Utils;
use ProfileStream::Citus qw(start_node address join_nodes move_of_shard start_move);
use ProfileStream::Node;
use Test::More;

plan skip_all => 'NOT RUN: PS_CITUS names no PostgreSQL with Citus' unless $ENV{PS_CITUS};

my $plain = ProfileStream::Node->start_new('plain');
my ($coordinator, $one, $two) = map { start_node($_) } qw(coordinator one two);
my @nodes = ($coordinator, $one, $two);
my $cluster = { nodes => \@nodes, plain => $plain };
my $customers = 300;
my $as_of = '2026-03-01 00:00:00Z';
plan skip_all => 'built without failpoints' unless $plain->has_failpoints;
$plain->sql("INSERT INTO profile_stream.segment_changes (customer_id, kind, to_segment, changed_at) VALUES ('before', 'score', 'new', now())");
$coordinator->sql('CREATE EXTENSION profile_stream', "INSERT INTO profile_stream.segment_changes (customer_id, kind, to_segment, changed_at) VALUES ('before', 'score', 'new', now())");
join_nodes($cluster, 8);

sub apply
{
	my ($node, $day, $events) = @_;
	my $event = "jsonb_build_object('eventId', '$day-' || n, 'customerId', 'c' || n % $customers, 'eventType', (ARRAY['transaction.completed', 'support.ticket.created', 'user.logged_in'])[1 + n % 3],"
	  . " 'timestamp', timestamptz '2026-01-01 00:00:00Z' + interval '1 day' * ($day + n % 7), 'payload', jsonb_build_object('amount', 3 * n))";
	$_->sql("SELECT count(*) FROM unnest(profile_stream.apply_events(ARRAY(SELECT $event FROM generate_series(1, $events) n))) o WHERE o = 'applied'") foreach $plain, $node;
	return;
}

sub refresh
{
	my ($node) = @_;
	my $call = "CALL profile_stream.refresh_scores('0', batch => 20, as_of => '$as_of')";
	$_->sql($call) foreach $plain, $node;
	return;
}

my $scores = 'SELECT customer_id, segment, churn_risk_score, lifetime_value, scored_at IS NOT NULL FROM profile_stream.%s ORDER BY customer_id COLLATE "C"';
my $changes = 'SELECT customer_id, kind, from_segment, to_segment, quiet FROM profile_stream.segment_changes ORDER BY customer_id COLLATE "C", change_id';

sub equals_plain
{
	my ($name) = @_;
	foreach my $node (@nodes)
	{
		foreach my $relation (qw(materialized_profiles profiles))
		{
			my $sql = sprintf($scores, $relation);
			is($node->sql($sql), $plain->sql($sql), "$name: $relation on " . $node->name);
		}
		is($node->sql($changes), $plain->sql($changes), "$name: changes of segments on " . $node->name);
		my $of = 'SELECT d ->> \'segment\', d ->> \'churnRiskScore\', d ->> \'lifetimeValue\' FROM profile_stream.get_profile(\'c7\') d';
		is($node->sql($of), $plain->sql($of), "$name: get_profile() on " . $node->name);
	}
	is($coordinator->sql('SELECT count(*) - count(DISTINCT change_id) FROM profile_stream.segment_changes'), '0', "$name: changes have numbers of their own");
	return;
}

# The node of a customer.
sub owner_of
{
	my ($customer) = @_;
	my $port = $coordinator->sql("SELECT nodeport FROM pg_dist_placement JOIN pg_dist_node USING (groupid) WHERE shardid = get_shard_id_for_distribution_column('profile_stream.materialized_profiles', '$customer')");
	return (grep { $_->port == $port } @nodes)[0];
}

apply($coordinator, 0, 900);
refresh($one);
equals_plain('the default scores');
is($two->sql("SELECT count(*), count(*) FILTER (WHERE state = 'done'), sum(profiles_done) FROM profile_stream.node_score_refresh"), "3|3|$customers", 'each node has done its part');
is($two->sql('SELECT count(*) FROM profile_stream.node_score_refresh WHERE node_error IS NOT NULL OR node IS NULL'), '0', 'and answers');
$_->sql('CALL profile_stream.refresh_scores()') foreach $coordinator;
is($coordinator->sql('SELECT sum(profiles_done) FROM profile_stream.node_score_refresh'), '0', 'fresh scores stay');

# definitions are made on the coordinator, for all nodes
$one->fails_like('SELECT profile_stream.set_score_settings(active_days => 5)', qr/is called on the coordinator/, 'settings on a worker node');
$coordinator->fails_like('BEGIN; SELECT profile_stream.set_score_settings(active_days => 5)', qr/cannot run inside a transaction block/, 'settings in a transaction');
$coordinator->fails_like('SELECT profile_stream.set_score_settings(active_days => -5)', qr/active_days must be/, 'wrong settings');
$_->sql('SELECT profile_stream.set_score_settings(active_days => 200, dormant_days => 300.1, champion_value => 500.25)') foreach $plain, $coordinator;
is($_->sql('SELECT x FROM profile_stream_internal.score_settings x'), $plain->sql('SELECT x FROM profile_stream_internal.score_settings x'), 'the settings of ' . $_->name) foreach @nodes;
apply($one, 10, 700);
refresh($two);
equals_plain('other settings');
$_->sql('SELECT profile_stream.reset_score_settings()') foreach $plain, $coordinator;
is($_->sql('SELECT count(*) FROM profile_stream_internal.score_settings'), '0', 'the defaults of ' . $_->name) foreach @nodes;
my $function = q{CREATE FUNCTION public.scores(profile jsonb) RETURNS jsonb LANGUAGE sql STABLE RETURN jsonb_build_object('segment', concat('v', profile ->> 'version', ' ', profile -> 'metrics'), 'churnRiskScore', 0.25)};
my $set = "SELECT profile_stream.set_score_function('public.scores(jsonb)')";
$_->sql($function) foreach $plain, $coordinator;
$two->sql('SET citus.enable_ddl_propagation = off', 'DROP FUNCTION IF EXISTS public.scores(jsonb)');
$coordinator->fails_like($set, qr/did not run on all nodes.*@{[$two->port]}.*function .?public\.scores/s, 'a function that a node does not have');
$two->sql('SET citus.enable_ddl_propagation = off', $function);
$_->sql($set) foreach $plain, $coordinator;

# who listens on the node of a customer is told
my ($of_one, $of_two) = map { my $node = $_; (grep { owner_of($_) == $node } map { "c$_" } 0 .. $customers - 1)[0] } $one, $two;
my $channel = $one->channel('segment_changes');
my $listener = $one->background_psql('postgres');
$listener->query_safe(qq(LISTEN "$channel"));
refresh($coordinator);
equals_plain('a score function');
my $heard = $listener->query('SELECT 1');
like($heard, qr/"customerId":"$of_one",[^}]*"to":"v/, 'changes are told on the node of the customer');
unlike($heard, qr/"customerId":"$of_two"/, 'and on no other');
$listener->quit;

# a role that is no operator of all nodes
$coordinator->sql('CREATE ROLE app LOGIN', 'GRANT profile_stream_operator TO app');
is($one->sql('SET ROLE app', 'CALL profile_stream.refresh_scores()'), '', 'an operator calls it');
$coordinator->sql('CREATE ROLE nobody LOGIN');
$one->fails_like("SET ROLE nobody; CALL profile_stream_internal.refresh_scores(now(), 1, now(), NULL)", qr/permission denied/, 'nobody calls what nodes run');

# a shard moves while it is refreshed
$_->sql('SELECT profile_stream.set_score_function(NULL)') foreach $plain, $coordinator;
apply($two, 20, 500);
$plain->sql("CALL profile_stream.refresh_scores('0', as_of => '$as_of')");
my $call = "CALL profile_stream.refresh_scores('0', batch => 1, as_of => '$as_of')";
my ($refreshed, $moved) = ('', '');
my ($move, $from_node) = move_of_shard($cluster, $two, 'force_logical');
my $from = -s $from_node->logfile;
$from_node->set_failpoint('refresh_locked:wait');
my $refresh = IPC::Run::start([ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', $coordinator->connstr('postgres'), '-c', $call ], '>', \$refreshed, '2>&1');
$from_node->wait_for_log(qr/failpoint "refresh_locked:wait"/, $from);
my $moving = start_move($cluster, $move, \$moved);
ok($from_node->poll_query_until('postgres', "SELECT count(*) > 0 FROM pg_locks WHERE NOT granted AND locktype = 'advisory'"), 'a move waits for a batch');
$from_node->set_failpoint('');
ok($moving->finish, 'then it moves the shard') or diag($moved);
ok($refresh->finish, 'the refresh goes on') or diag($refreshed);
$two->sql("CALL profile_stream.refresh_scores('1 hour', as_of => '$as_of')");
equals_plain('a shard that moved');

# a node is killed while it refreshes: the error names it, and the next call goes on
$_->sql('SELECT profile_stream.set_score_settings(active_days => 4, dormant_days => 5)') foreach $plain, $coordinator;
$plain->sql("CALL profile_stream.refresh_scores('0', as_of => '$as_of')");
$one->set_failpoint('refresh_before_commit:sleep=20');
$refresh = IPC::Run::start([ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', $two->connstr('postgres'), '-c', $call ], '>', \$refreshed, '2>&1');
ok($one->poll_query_until('postgres', "SELECT state = 'running' AND profiles_done > 20 FROM profile_stream.stat_score_refresh"), 'a refresh is in the middle');
$one->sql('CHECKPOINT');    # otherwise a crash loses it
$one->kill_process($one->sql('SELECT pid FROM profile_stream.stat_score_refresh'));
ok(!$refresh->finish, 'a node is killed, and the call fails');
like($refreshed, qr/did not run on all nodes.*:@{[$one->port]}: /s, 'the error names it');
$one->set_failpoint('');
$two->sql("CALL profile_stream.refresh_scores('1 hour', as_of => '$as_of')");
equals_plain('a node that was killed');
$two->stop('immediate');
$one->fails_like("CALL profile_stream.refresh_scores('0')", qr/did not run on all nodes.*:@{[$two->port]}: /s, 'a node that is down');
$two->start;
$one->sql("CALL profile_stream.refresh_scores('0', as_of => '$as_of')");
equals_plain('a node that was down');

# the changes are kept by the way back, and numbered on
is($_->sql('SELECT count(*) FROM unnest(profile_stream_internal.sharded_tables()) t WHERE pg_relation_size(t) > 0'), '0', $_->name . ': no row outside of the shards') foreach @nodes;
my $newest = $coordinator->sql('SELECT max(change_id) FROM profile_stream.segment_changes');
$coordinator->sql('SELECT profile_stream.undistribute()');
@nodes = ($coordinator);
equals_plain('the way back');
apply($coordinator, 30, 300);
$_->sql('SELECT profile_stream.set_score_settings(active_days => 200, dormant_days => 300)') foreach $plain, $coordinator;
refresh($coordinator);
equals_plain('one server again');
cmp_ok($coordinator->sql('SELECT max(change_id) FROM profile_stream.segment_changes'), '>', $newest, 'numbers go on');
$coordinator->sql('SELECT profile_stream.reset_score_settings()', 'SELECT profile_stream.distribute(4)');
$_->sql('SELECT profile_stream.reset_score_settings()') foreach $plain;
@nodes = ($coordinator, $one, $two);
refresh($one);
equals_plain('distributed again');

$_->stop('fast') foreach $plain, @nodes;
done_testing();

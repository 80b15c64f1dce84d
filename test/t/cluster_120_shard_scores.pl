# Scores of two servers that share profiles as nodes of Citus do: each refreshes the shards that it has. They are those of a
# server that has all of it, with the default scores, other settings and a function. A shard moves while it is refreshed, and
# a refresh is killed; what it has done is neither lost nor done again. cluster_100 has Citus itself.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use IPC::Run ();
use PostgreSQL::Test::Utils;
use ProfileStream::Broker;
use ProfileStream::Node;
use ProfileStream::Shards qw(make_shards give_shard connection run_call);
use Test::More;
use Time::HiRes qw(usleep);

plan skip_all => 'needs a Kafka (KAFKA_HOME)' unless ProfileStream::Broker::available();

my $broker = ProfileStream::Broker->new(topics => [ [ 'events', 1 ] ]);    # the process of score_interval is started by a worker that runs
my ($plain, $one, $two) = map { ProfileStream::Node->start_new($_) } qw(plain one two);
my @nodes = ($one, $two);
make_shards(@nodes);
plan skip_all => 'built without failpoints' unless $one->has_failpoints;

# the number of the shard of customer c
my $shard = '((hashtext(c COLLATE "C")::bigint + 2147483648) / 1073741824)';
my $all = 400;

sub apply
{
	my ($day, $customers) = @_;
	my $event = "jsonb_build_object('eventId', '$day' || n, 'customerId', c, 'eventType', (ARRAY['transaction.completed', 'support.ticket.created', 'user.logged_in'])[1 + n % 3],"
	  . " 'timestamp', timestamptz '2026-01-01 00:00:00Z' + interval '1 day' * ($day + n % 7), 'payload', jsonb_build_object('amount', 3 * n))";
	my $from = "generate_series(1, $customers) i, LATERAL (SELECT 'c' || i % $all AS c, i AS n) e";
	$plain->sql("SELECT count(profile_stream.apply_events(ARRAY(SELECT $event FROM $from)))");
	foreach my $number (1, 2)
	{
		$nodes[ $number - 1 ]->sql("SELECT count(profile_stream.apply_events(ARRAY(SELECT $event FROM $from WHERE 1 + $shard % 2 = $number)))");
	}
	return;
}

sub refresh_of_node
{
	my ($stale_s, $batch) = @_;
	return "CALL profile_stream_internal.refresh_scores(${stale_s}000000, $batch, '2026-03-01 00:00:00Z', NULL)";
}

sub refresh
{
	$plain->sql("CALL profile_stream.refresh_scores('0', as_of => '2026-03-01 00:00:00Z')");
	is($_->sql(refresh_of_node(0, 7)), '0', 'a refresh on ' . $_->name) foreach @nodes;
	return;
}

# Compares what servers have with what the plain one has, whatever has numbered it, and when.
sub equals_plain
{
	my ($name) = @_;
	my %columns = (
		materialized_profiles => 'customer_id, version, segment, churn_risk_score, lifetime_value, scored_at IS NOT NULL',
		segment_changes => 'customer_id, kind, from_segment, to_segment, quiet');
	foreach my $table (sort keys %columns)
	{
		my @rows = sort map { split(/\n/, $_->sql("SELECT public.rows_of('$table', '$columns{$table}')")) } @nodes;
		my @rows_of_plain = sort(split(/\n/, $plain->sql("SELECT ROW($columns{$table})::text FROM profile_stream.$table")));
		is_deeply(\@rows, \@rows_of_plain, "$name: $table");
		cmp_ok(scalar(@rows), '>=', $all, "$name: there are some");
	}
	my @numbers = map { split(/\n/, $_->sql("SELECT public.rows_of('segment_changes', 'change_id')")) } @nodes;
	my %numbers = map { $_ => 1 } @numbers;
	is(scalar(keys %numbers), scalar(@numbers), "$name: each change has a number of its own");
	return;
}

# Starts a statement; finish() of what is returned says whether it succeeded.
sub start
{
	my ($node, $output, @statements) = @_;
	return IPC::Run::start([ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('postgres'), map { ('-c', $_) } @statements ], '>', $output, '2>&1');
}

sub done { my ($node) = @_; return $node->sql('SELECT profiles_done FROM profile_stream.stat_score_refresh'); }

apply(0, 1200);
refresh();
equals_plain('the default scores');
is(done($one) + done($two), $all, 'each profile is scored by one node');
is($_->sql("SELECT count(DISTINCT r) FROM public.rows_of('score_passes', 'slot') r"), '2', 'each shard of ' . $_->name . ' has its pass') foreach @nodes;
$_->sql(refresh_of_node(3600, 7)) foreach @nodes;
is(done($one) + done($two), '0', 'scores that are fresh stay');

# definitions run on all nodes; where they are made is the coordinator
$one->fails_like('SELECT profile_stream.set_score_settings(active_days => 5)', qr/set_score_settings\(\) runs on all nodes, and is called on the coordinator/, 'settings on a worker node');
$one->fails_like('SELECT profile_stream.reset_score_settings()', qr/is called on the coordinator/, 'and to reset them');
$one->fails_like('SELECT profile_stream.set_score_function(NULL)', qr/is called on the coordinator/, 'and a function');
run_call($_, 1, '{"active_days": 200, "dormant_days": 300, "champion_value": 500.25}', '{1,1,1}', 'set_score_settings') foreach @nodes;
$plain->sql('SELECT profile_stream.set_score_settings(active_days => 200, dormant_days => 300, champion_value => 500.25)');
is($_->sql('SELECT x FROM profile_stream_internal.score_settings x'), $plain->sql('SELECT x FROM profile_stream_internal.score_settings x'), 'the settings of ' . $_->name) foreach @nodes;
apply(10, 900);
refresh();
equals_plain('other settings');
$_->sql("SELECT profile_stream_internal.run_coordinator_call(2, current_user, 'reset_score_settings', '{}', '{1,1,1}')") foreach @nodes;
is($_->sql('SELECT count(*) FROM profile_stream_internal.score_settings'), '0', 'the defaults on ' . $_->name) foreach @nodes;

# a function of the user
$_->sql(q{CREATE FUNCTION public.scores(profile jsonb) RETURNS jsonb LANGUAGE sql STABLE
	RETURN jsonb_build_object('segment', concat('v', profile ->> 'version', ' ', profile -> 'metrics'), 'churnRiskScore', 0.25)}) foreach $plain, @nodes;
$plain->sql("SELECT profile_stream.reset_score_settings(), profile_stream.set_score_function('public.scores(jsonb)')");
$_->sql("SELECT profile_stream_internal.run_coordinator_call(3, current_user, 'set_score_function', '{public.scores(jsonb)}', '{1,1,1}')") foreach @nodes;
refresh();
equals_plain('a score function');

# A shard moves while it is refreshed: the move waits for the batch, and the other node goes on with the pass.
apply(20, 500);
$plain->sql('SELECT profile_stream.set_score_function(NULL)', "CALL profile_stream.refresh_scores('0', as_of => '2026-03-01 00:00:00Z')");
$_->sql("SELECT profile_stream_internal.run_coordinator_call(4, current_user, 'set_score_function', '{NULL}', '{1,1,1}')") foreach @nodes;
my ($refreshed, $moved) = ('', '');
my $from = -s $one->logfile;
$one->set_failpoint('refresh_locked:wait');
my $refresh = start($one, \$refreshed, refresh_of_node(0, 1));
$one->wait_for_log(qr/failpoint "refresh_locked:wait"/, $from);
my $move = start($one, \$moved, 'SET allow_system_table_mods = on', "SELECT public.give_shard(0, '@{[connection($two)]}')");
ok($one->poll_query_until('postgres', "SELECT count(*) > 0 FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE NOT l.granted AND a.query ~ 'give_shard'"), 'a move waits for a batch');
is($two->sql("SELECT count(*) FROM pg_class WHERE relname = 'materialized_profiles_100'"), '0', 'and has moved nothing');
$one->set_failpoint('');
ok($move->finish, 'then it moves the shard') or diag($moved);
ok($refresh->finish, 'the refresh goes on') or diag($refreshed);
my ($of_shard, $left) = split(/\|/, $two->sql("SELECT count(*), count(*) FILTER (WHERE segment ~ '^v') FROM profile_stream.materialized_profiles_100"));
cmp_ok($left, '>', 0, "with another shard: $left of $of_shard profiles are left to the new node");
cmp_ok($left, '<', $of_shard, 'but not those that it had done');
$two->sql(refresh_of_node(3600, 1));
cmp_ok(done($two), '>=', $left, 'and it goes on with those');
cmp_ok(done($two), '<=', $left + 32, 'and with few others, whom the pass had not come up to');
$two->sql(refresh_of_node(0, 7));
equals_plain('a shard that moved');

# a refresh that is killed with its server; the next one goes on
run_call($_, 5, '{"active_days": 4, "dormant_days": 5}', '{1,1,1}', 'set_score_settings') foreach @nodes;
$plain->sql('SELECT profile_stream.set_score_settings(active_days => 4, dormant_days => 5)', "CALL profile_stream.refresh_scores('0', as_of => '2026-03-01 00:00:00Z')");
$one->sql(refresh_of_node(0, 100));
$refresh = start($two, \$refreshed, "SET profile_stream.failpoint = 'refresh_before_commit:sleep=10'", refresh_of_node(0, 1));
ok($two->poll_query_until('postgres', "SELECT state = 'running' AND profiles_done > 120 FROM profile_stream.stat_score_refresh"), 'a refresh is in its second shard');
$two->sql('CHECKPOINT');    # otherwise a crash loses it
ok($two->kill_process($two->sql('SELECT pid FROM profile_stream.stat_score_refresh')), 'when it is killed');
ok(!$refresh->finish, 'it ends');
is($two->sql('SELECT state FROM profile_stream.stat_score_refresh'), 'interrupted', 'and is shown so');
$two->sql(refresh_of_node(3600, 7));
cmp_ok(done($two), '<', 200, 'the next one goes on');
equals_plain('a refresh that was killed');

# what is too old is discarded, and who is forgotten is no longer where a pass has come to
my $customer = $two->sql("SELECT customer_id FROM profile_stream.materialized_profiles_100 WHERE scored_at IS NOT NULL LIMIT 1");
$two->sql("INSERT INTO profile_stream.segment_changes_500 (change_id, customer_id, kind, to_segment, changed_at) VALUES (1, '$customer', 'score', 'old', now() - interval '31 days')",
	"UPDATE profile_stream_internal.score_passes_600 SET reached = '$customer'");
$two->sql("SELECT profile_stream_internal.run_on_this_node('profile_stream.forget_customer(''$customer'')')");
$plain->sql("SELECT profile_stream.forget_customer('$customer')");
is($two->sql("SELECT reached FROM profile_stream_internal.score_passes_600"), '', 'the pass begins anew');
$two->sql("INSERT INTO profile_stream.segment_changes_500 (change_id, customer_id, kind, to_segment, changed_at) VALUES (1, 'old', 'score', 'old', now() - interval '31 days')");
$two->sql(refresh_of_node(3600, 7));
is($two->sql("SELECT count(*) FROM profile_stream.segment_changes_500 WHERE customer_id IN ('old', '$customer')"), '0', 'old changes are discarded');

# who watches scores is told of them where the customer is; and the process of score_interval does what is due there
$plain->sql("SELECT profile_stream.create_stream('watcher', bootstrap_servers => '@{[$broker->bootstrap]}', topic => 'events', watch => '{segment}', notify_channel => 'told')");
run_call($_, 6, sprintf('{"name": "watcher", "bootstrap_servers": "%s", "topic": "events", "watch": "{segment}", "notify_channel": "told"}', $broker->bootstrap), '{1,1,1}') foreach @nodes;
refresh();
run_call($_, 7, '{"active_days": 200, "dormant_days": 300}', '{2,1,1}', 'set_score_settings') foreach @nodes;
$plain->sql('SELECT profile_stream.set_score_settings(active_days => 200, dormant_days => 300)');
my %told;
foreach my $node ($plain, @nodes)
{
	my $heard = $node->sql('LISTEN told', $node == $plain ? "CALL profile_stream.refresh_scores('0', as_of => '2026-03-01 00:00:00Z')" : refresh_of_node(0, 7));
	push @{ $told{ $node->name } }, $heard =~ /notification "told" with payload "\{[^"]*"customerId": ?"([^"]*)"/g;
}
is(join(' ', sort(map { @{ $told{ $_->name } } } @nodes)), join(' ', sort @{ $told{plain} }), 'each customer whose score changes is told of once');
cmp_ok(scalar @{ $told{$_} }, '>', 20, "$_ tells") foreach qw(one two);
my $here = join(' ', sort(map { /^\((.*)\)$/ } split(/\n/, $one->sql("SELECT public.rows_of('materialized_profiles', 'customer_id')"))));
is(scalar(grep { " $here " !~ / $_ / } @{ $told{one} }), '0', 'of its own customers');
run_call($_, 8, '{"active_days": 4, "dormant_days": 5}', '{2,1,1}', 'set_score_settings') foreach @nodes;
$plain->sql('SELECT profile_stream.set_score_settings(active_days => 4, dormant_days => 5)', "CALL profile_stream.refresh_scores('0')");
$_->sql("ALTER SYSTEM SET profile_stream.score_interval = '1s'", 'SELECT pg_reload_conf()') foreach @nodes;
my $dormant = $plain->sql("SELECT count(*) FROM profile_stream.materialized_profiles WHERE segment = 'dormant'");
my $found = 0;
foreach (1 .. 600)
{
	$found = 0;
	$found += $_->sql("SELECT count(*) FROM public.rows_of('materialized_profiles', 'segment') r WHERE r = '(dormant)'") foreach @nodes;
	last if $found == $dormant;
	usleep(100_000);
}
is($found, $dormant, 'a process of each node refreshes its own');
$_->sql('ALTER SYSTEM RESET profile_stream.score_interval', 'SELECT pg_reload_conf()') foreach @nodes;
like($_->sql("SELECT state FROM profile_stream.stat_score_refresh"), qr/^(running|done)$/, 'without an error on ' . $_->name) foreach @nodes;

is($_->sql('SELECT count(*) FROM unnest(profile_stream_internal.sharded_tables()) t WHERE pg_relation_size(t) > 0'), '0', $_->name . ': no row outside of the shards') foreach @nodes;
$_->stop('fast') foreach $plain, @nodes;
$broker->stop;
done_testing();

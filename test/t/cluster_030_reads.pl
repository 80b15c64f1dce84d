# Profiles that Citus distributes over nodes read as on one server: views, documents, metrics with sealed chunks, and what
# changed since a bookmark, on each node and for each role. Erasure, blocks and upkeep reach all nodes.
# A server without Citus that got the same events is the measure.
# It runs where PS_CITUS names the pg_config of a PostgreSQL with Citus.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use List::Util qw(first);
use PostgreSQL::Test::Utils;
use ProfileStream::Broker;
use ProfileStream::Citus qw(start_node address);
use ProfileStream::Node qw(event);
use Test::More;

plan skip_all => 'NOT RUN: PS_CITUS names no PostgreSQL with Citus' unless $ENV{PS_CITUS};
plan skip_all => 'needs a Kafka (KAFKA_HOME)' unless ProfileStream::Broker::available();

my $customers = 200;
my $plain = ProfileStream::Node->start_new('plain');

# Makes the next transaction ids of a server be far from those of the others.
sub leap_xids
{
	my ($node) = @_;
	append_to_file(sprintf('%s/pg_xact/%04X', $node->data_dir, 40), "\0" x (32 * 8192));
	command_ok([ 'pg_resetwal', '-f', '-x', 40 * 1_048_576 + 10, $node->data_dir ], $node->name . ' has other transaction ids');
}

my ($coordinator, $one, $two) = (start_node('coordinator'), start_node('one'), start_node('two', \&leap_xids));
my @nodes = ($coordinator, $one, $two);

$coordinator->sql('CREATE EXTENSION profile_stream', "SELECT citus_set_coordinator_host(@{[address($coordinator)]})",
	map({ "SELECT citus_add_node(@{[address($_)]})" } $one, $two), 'SELECT profile_stream.distribute(8)');

# The node that has a customer.
sub owner_of
{
	my ($customer) = @_;
	my $port = $coordinator->sql("SELECT nodeport FROM pg_dist_placement JOIN pg_dist_node USING (groupid)
		WHERE shardid = get_shard_id_for_distribution_column('profile_stream.materialized_profiles', '$customer')");
	return (grep { $_->port == $port } @nodes)[0];
}

# Applies events on the measure, and each where its customer is. Returns the outcomes of the cluster.
sub apply
{
	my @events = @_;
	my %of;
	my @outcomes;

	foreach my $event (@events)
	{
		my ($customer) = $event =~ /"customerId":"([^"]*)"/;
		push @{ $of{ owner_of($customer)->port } }, $event;
	}
	foreach my $node ($plain, @nodes)
	{
		my @mine = $node == $plain ? @events : @{ $of{ $node->port } // [] };
		next unless @mine;
		my $outcomes = $node->sql("SELECT unnest(profile_stream.apply_events(ARRAY[@{[join(', ', map { qq('$_') } @mine)]}]::jsonb[]))");
		push @outcomes, split(/\n/, $outcomes) unless $node == $plain;
	}
	return @outcomes;
}

# customers with three events, and some with so many that most of their samples and event ids are in chunks
my $fill = <<"END";
SELECT count(*) FROM (SELECT profile_stream.apply_events(array_agg(e.event ORDER BY e.n, e.c)) FROM (
	SELECT c, n, jsonb_build_object('eventId', format('e%%s-%%s', c, n), 'customerId', 'c' || c, 'eventType', 'transaction.completed',
		'timestamp', date_trunc('day', now()) - n * interval '67 minutes' - c * interval '1 second', 'payload', jsonb_build_object('amount', n, 'transactionId', n)) AS event
	FROM generate_series(1, $customers) c, generate_series(1, CASE WHEN c <= 20 THEN 400 ELSE 3 END) n) e WHERE %s) a
END
my $metric = "profile_stream.create_metric('spent', 'transaction.completed', '9 days', '\$.amount', 'sum')";
$_->sql("SELECT $metric", "SELECT profile_stream.map_attribute('seen', 'place', '\$.place')") foreach $coordinator, $plain;
$plain->sql(sprintf($fill, 'true'));
$_->sql(sprintf($fill, "EXISTS (SELECT FROM pg_dist_shard s JOIN pg_dist_placement USING (shardid) JOIN pg_dist_local_group USING (groupid)
	WHERE s.logicalrelid = 'profile_stream.materialized_profiles'::regclass AND hashtext(('c' || c) COLLATE \"C\") BETWEEN s.shardminvalue::int AND s.shardmaxvalue::int)"))
  foreach $one, $two;
apply(event('s0', 'c77', type => 'customer.profile.updated', payload => '{"firstName": "Ada", "email": "ada@example.com", "phone": "+43 1 2345"}'));
apply(event('s1', 'c3', type => 'seen', payload => '{"place": "here"}'), event('s2', 'c150', type => 'account.created', payload => '{"initialBalance": 12.5}'));
cmp_ok($coordinator->sql('SELECT count(*) FROM profile_stream_internal.window_chunks'), '>', 100, 'there are sealed chunks');

my $day = "date_trunc('day', now())";
my %reads = (
	'profiles' => 'SELECT * FROM profile_stream.profiles ORDER BY customer_id',
	'documents' => 'SELECT * FROM profile_stream.profile_documents ORDER BY customer_id',
	'one document of all' => "SELECT data FROM profile_stream.profile_documents WHERE customer_id = 'c3'",
	'a join' => 'SELECT p.customer_id, p.total_transaction_value_30d, d.data FROM profile_stream.profiles p JOIN profile_stream.profile_documents d USING (customer_id) ORDER BY 1',
	'sums' => 'SELECT count(*), sum(total_transaction_value_30d), sum(transaction_count_30d) FROM profile_stream.profiles',
	'get_profile' => "SELECT profile_stream.get_profile(c) FROM unnest('{c1,c3,c150,nobody,NULL}'::text[]) c",
	'get_profile of a moment' => "SELECT profile_stream.get_profile(c, $day - interval '4 days') FROM unnest('{c1,c3,c150,nobody}'::text[]) c",
	'get_profile in a transaction' => "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT profile_stream.get_profile('c4'); COMMIT",
	'get_profiles' => "SELECT * FROM profile_stream.get_profiles('{c9,c3,nobody,c3,c150}')",
	'get_profiles of a moment' => "SELECT * FROM profile_stream.get_profiles('{c9,c3,c150}', $day - interval '4 days')",
	'profiles_at' => "SELECT * FROM profile_stream.profiles_at($day - interval '4 days') ORDER BY 1",
	'metric_value' => "SELECT c, profile_stream.metric_value(c, m, $day - d * interval '26 hours') FROM unnest('{c1,c2,c77,nobody}'::text[]) c, unnest('{spent,total_transaction_value_30d}'::text[]) m, generate_series(0, 5) d ORDER BY 1, 2",
	'metric_trend' => "SELECT c, t.* FROM unnest('{c1,c2,c77,nobody}'::text[]) c, profile_stream.metric_trend(c, 'spent', current_date - 9, current_date, 'Europe/Vienna') t ORDER BY 1, 2",
	'metric_days' => "SELECT * FROM profile_stream.metric_days('spent', current_date - 9, current_date) ORDER BY 1, 2",
	'metric_days of one' => "SELECT * FROM profile_stream.metric_days('spent', current_date - 9, current_date) WHERE customer_id = 'c5' ORDER BY 2",
	'profile_metrics' => 'SELECT * FROM profile_stream.profile_metrics ORDER BY 1, 2',
	'metric_totals' => 'SELECT * FROM profile_stream.metric_totals',
	'bi_profiles' => 'SELECT * FROM profile_stream.bi_profiles ORDER BY customer_id',
	'all changes' => 'SELECT customer_id, version FROM profile_stream.profiles_changed_since() ORDER BY 1',
	'masked' => 'SELECT customer_id, first_name, last_name, email, phone, events FROM profile_stream.masked_profiles ORDER BY 1',
	'event ids' => 'SELECT customer_id, count(*) FROM profile_stream_internal.event_ids GROUP BY 1 ORDER BY 1');
my %analyst = map { $_ => 1 } 'metric_value', 'metric_trend', 'metric_days', 'metric_days of one', 'bi_profiles', 'all changes';

sub reads_as_plain
{
	my ($name) = @_;
	foreach my $what (sort keys %reads)
	{
		my $expected = $plain->sql($reads{$what});
		is($_->sql($reads{$what}), $expected, "$name: $what on " . $_->name) foreach @nodes;
	}
}

# nothing of it changes with the moment of the query: the windows have all, or end in the past
$plain->sql('SELECT 1');
reads_as_plain('at first');
like($plain->sql($reads{masked}), qr/^c77\|A\*\*\*\|\|a\*\*\*\@example\.com\|\*\*\*45\|/m, 'names are masked');

# roles, with no call of distribute() since the shards were made
$coordinator->sql('CREATE ROLE reads LOGIN IN ROLE profile_stream_reader', 'CREATE ROLE analyses LOGIN IN ROLE profile_stream_bi', 'CREATE ROLE operates LOGIN IN ROLE profile_stream_operator',
	'CREATE ROLE supports LOGIN IN ROLE profile_stream_support', 'CREATE ROLE watches LOGIN IN ROLE pg_monitor');

sub reads_as
{
	my ($role, $name, @which) = @_;
	foreach my $what (sort @which)
	{
		my $expected = $plain->sql($reads{$what});
		is($_->safe_psql('postgres', $reads{$what}, extra_params => [ '-U', $role ]), $expected, "$name, $role: $what on " . $_->name) foreach @nodes;
	}
}
reads_as('reads', 'at first', grep { $_ ne 'masked' } keys %reads);
reads_as('analyses', 'at first', keys %analyst);
reads_as('supports', 'at first', 'masked');

# metrics that do not exist, on the node of the customer and elsewhere
$_->fails_like("SELECT profile_stream.metric_value('c1', 'none')", qr/metric "none" does not exist/, 'no such metric on ' . $_->name) foreach @nodes;

# what changed since a bookmark: what was committed since, also by a transaction that was under way when it was made
my $changed = "SELECT string_agg(customer_id, ' ' ORDER BY customer_id) FROM profile_stream.profiles_changed_since('%s')";
my $bookmark = $coordinator->sql('SELECT DISTINCT next_bookmark FROM profile_stream.profiles_changed_since()');
like($bookmark, qr/^\d+-\d+-\d+-\d+\@\d+(,\d+-\d+-\d+-\d+\@\d+){2}$/, 'a bookmark has all nodes');
is($coordinator->sql(sprintf($changed, $bookmark)), '', 'nothing has changed');
foreach my $node ($one, $two)
{
	my ($slow, $quick) = split(/\n/, $node->sql("SELECT customer_id FROM profile_stream.materialized_profiles p
		WHERE get_shard_id_for_distribution_column('profile_stream.materialized_profiles', customer_id) IN (SELECT shardid FROM pg_dist_placement JOIN pg_dist_local_group USING (groupid))
		ORDER BY 1 LIMIT 2"));
	my $session = $node->background_psql('postgres', on_error_stop => 1);
	$session->query_safe('BEGIN');
	$session->query_safe("SELECT profile_stream.apply_event('" . event("slow$slow", $slow) . "')");
	apply(event("quick$quick", $quick));
	$plain->sql("SELECT profile_stream.apply_event('" . event("slow$slow", $slow) . "')");
	is($_->sql(sprintf($changed, $bookmark)), $quick, 'one that changed on ' . $node->name . ', seen from ' . $_->name) foreach @nodes;
	my $meanwhile = $coordinator->sql("SELECT DISTINCT next_bookmark FROM profile_stream.profiles_changed_since('$bookmark')");
	$session->query_safe('COMMIT');
	$session->quit;
	like($_->sql(sprintf($changed, $meanwhile)), qr/\b$slow\b/, 'one that was under way on ' . $node->name . ', seen from ' . $_->name) foreach @nodes;
	$coordinator->poll_query_until('postgres', "SELECT count(*) = 0 FROM profile_stream.profiles_changed_since((SELECT DISTINCT next_bookmark FROM profile_stream.profiles_changed_since()))");
	$bookmark = $coordinator->sql('SELECT DISTINCT next_bookmark FROM profile_stream.profiles_changed_since()');
}
my @parts = split(/,/, $bookmark);
is($coordinator->sql("SELECT count(*) FROM profile_stream.profiles_changed_since('$parts[0]')"), $customers, 'nodes of which a bookmark has nothing are read whole') if $parts[0] =~ /\@0$/;
is($coordinator->sql("SELECT count(*) FROM profile_stream.profiles_changed_since('" . $plain->sql('SELECT profile_stream.profile_bookmark()') . "')"), $customers, 'a bookmark of a server: all');
is($_->sql("SELECT count(*) FROM profile_stream.profiles_changed_since('" . $_->sql('SELECT profile_stream.profile_bookmark()') . "')"), '0', 'profile_bookmark() on ' . $_->name) foreach @nodes;
$_->fails_like('SELECT profile_stream.profile_bookmark(), count(*) FROM profile_stream.profiles', qr/cannot be in a statement that reads distributed profiles/, 'with profiles on ' . $_->name) foreach @nodes;
$coordinator->fails_like("SELECT profile_stream.profile_bookmark(), version FROM profile_stream.materialized_profiles WHERE customer_id = 'c1'", qr/does not work on distributed profiles|cannot be in a statement/, 'with one profile');
$coordinator->fails_like("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT $_; COMMIT", qr/no bookmarks of distributed profiles in a repeatable read transaction/, "$_ by an older snapshot")
  foreach 'profile_stream.profile_bookmark()', 'count(*) FROM profile_stream.profiles_changed_since()';
$coordinator->fails_like("SELECT * FROM profile_stream.profiles_changed_since('1-2-3\@4,nonsense')", qr/is not a bookmark/, 'what is no bookmark');

# a shard that moves: its customers come again, no other, and all reads as before
my $moved = $coordinator->sql("SELECT shardid FROM pg_dist_shard JOIN pg_dist_placement USING (shardid) JOIN pg_dist_node USING (groupid)
	WHERE logicalrelid = 'profile_stream.materialized_profiles'::regclass AND nodeport = @{[$one->port]} ORDER BY 1 LIMIT 1");
my $of_moved = $coordinator->sql("SELECT string_agg(customer_id, ' ' ORDER BY customer_id) FROM profile_stream.materialized_profiles
	WHERE get_shard_id_for_distribution_column('profile_stream.materialized_profiles', customer_id) = $moved");
$coordinator->sql("SELECT citus_move_shard_placement($moved, @{[address($one)]}, @{[address($two)]}, 'block_writes')");
is($coordinator->sql(sprintf($changed, $bookmark)), $of_moved, 'the customers of a shard that moved come again');
reads_as_plain('after a move');
reads_as('analyses', 'after a move', keys %analyst);
reads_as('supports', 'after a move', 'masked');

# samples are folded, and event ids forgotten, in each shard
my $of = "$day - interval '6 days'";
is($coordinator->sql("SELECT profile_stream.prune_metrics($of)"), $plain->sql("SELECT profile_stream.prune_metrics($of)"), 'prune_metrics() folds as many samples');
is($coordinator->sql("SELECT profile_stream.prune_metrics($of)"), 0, 'and none the next time');
my $folded = 'SELECT customer_id, metric, chunk_no, samples IS NULL, days::text FROM profile_stream_internal.window_chunks ORDER BY 1, 2, 3';
is($coordinator->sql($folded), $plain->sql($folded), 'the chunks are the same');
reads_as_plain('after pruning');
my $broker = ProfileStream::Broker->new(topics => [ [ 'events', 1 ] ]);
cmp_ok($coordinator->sql('SELECT count(*) FROM profile_stream_internal.event_id_chunks'), '>', 100, 'there are chunks of event ids');
# before there is a worker, which looks when it begins, and then after an hour
$coordinator->sql("UPDATE profile_stream_internal.event_id_chunks SET sealed_to = now() - interval '8 days'");
$coordinator->create_stream('crm', $broker, 'events');
$coordinator->poll_query_until('postgres', 'SELECT count(*) = 0 FROM profile_stream_internal.event_id_chunks');
is($coordinator->sql('SELECT count(*) FROM profile_stream_internal.event_id_chunks'), 0, 'workers forget event ids in all shards');
$plain->sql('DELETE FROM profile_stream_internal.event_id_chunks');

# watching, on any node
sub watch
{
	my ($node, $role, $query) = @_;
	return $node->safe_psql('postgres', $query, extra_params => [ '-U', $role ]);
}
my $all = join("\n", sort map { "127.0.0.1:@{[$_->port]}" } @nodes);
foreach my $node (@nodes)
{
	my $of = $node->name;
	is(watch($node, $_, 'SELECT node FROM profile_stream.node_streams WHERE stream = $$crm$$ AND node_error IS NULL ORDER BY node COLLATE "C"'), $all, "node_streams on $of, $_") foreach 'watches', 'reads', 'operates';
	is(watch($node, $_, 'SELECT DISTINCT node COLLATE "C" FROM profile_stream.node_health ORDER BY 1'), $all, "node_health on $of, $_") foreach 'watches', 'reads';
	is(watch($node, 'reads', 'SELECT count(*), count(node_error), count(DISTINCT topic) FROM profile_stream.node_topics'), '3|0|1', "node_topics on $of");
	is(watch($node, 'watches', 'SELECT sum(applied) FROM profile_stream.node_partitions'), $node->sql("SELECT sum(applied) FROM profile_stream.reconcile('crm')"), "node_partitions on $of");
	cmp_ok(watch($node, 'watches', 'SELECT table_bytes FROM profile_stream.stat_storage WHERE "table" = $$materialized_profiles$$ AND schema = $$profile_stream$$'), '>', 8192, "stat_storage counts shards on $of") if $node != $coordinator;
}
$coordinator->sql("SELECT profile_stream.drop_stream('crm')");

# erasure and blocks
my ($of_one, $of_two) = map { my $node = $_; first { owner_of($_) == $node } map { "c$_" } 1 .. 20 } $one, $two;
my $exported = "SELECT profile_stream.export_customer('%s') - '{exportedAt,eventIds}'::text[]";
is($_->sql(sprintf($exported, $of_one)), $plain->sql(sprintf($exported, $of_one)), 'export_customer() on ' . $_->name) foreach @nodes;
foreach my $customer ($of_one, $of_two)
{
	my $erased = "SELECT profiles, chunks, dead_letters, blocked FROM profile_stream.forget_customer('$customer', block => true)";
	is($coordinator->safe_psql('postgres', $erased, extra_params => [ '-U', 'operates' ]), $plain->sql($erased), 'forget_customer() of one on ' . owner_of($customer)->name);
	is($_->sql("SELECT profile_stream.get_profile('$customer') IS NULL"), 't', 'gone on ' . $_->name) foreach @nodes;
	is($coordinator->sql("SELECT count(*) FROM profile_stream_internal.window_chunks WHERE customer_id = '$customer'"), 0, 'and so are its chunks');
	is_deeply([ apply(event("again$customer", $customer)) ], ['blocked'], 'it stays blocked');
}
$coordinator->fails_like("BEGIN; SELECT profile_stream.forget_customer('c30'); COMMIT", qr/cannot run inside a transaction block/, 'forget_customer() in a transaction');
reads_as_plain('after erasure');

# a node that is added takes the blocks over
my $three = start_node('three');
push @nodes, $three;
$coordinator->sql("SELECT citus_add_node(@{[address($three)]})", 'SELECT profile_stream.distribute()');
my $shard = $coordinator->sql("SELECT get_shard_id_for_distribution_column('profile_stream.materialized_profiles', '$of_one')");
$coordinator->sql("SELECT citus_move_shard_placement($shard, @{[address(owner_of($of_one))]}, @{[address($three)]}, 'block_writes')");
is(owner_of($of_one)->name, 'three', 'a shard has moved to a node that was added');
is_deeply([ apply(event("there$of_one", $of_one)) ], ['blocked'], 'its customer stays blocked there');
reads_as_plain('with another node');
reads_as('analyses', 'with another node', keys %analyst);
is($_->sql("SELECT profile_stream.unblock_customer('$of_one')"), 't', 'unblock_customer() on ' . $_->name) foreach $coordinator, $plain;
is_deeply([ apply(event("back$of_one", $of_one)) ], ['applied'], 'it is taken again');

# a node that is down: its customers cannot be read, those of others can
$two->stop('immediate');
$coordinator->fails_like("SELECT profile_stream.get_profile('$of_two')", qr/connection to the remote node/, 'a customer of a node that is down');
my $elsewhere = first { owner_of($_) == $three } map { "c$_" } 1 .. $customers;
is($coordinator->sql("SELECT profile_stream.get_profile('$elsewhere') ->> 'customerId'"), $elsewhere, 'a customer of another node');
$coordinator->fails_like("SELECT profile_stream.forget_customer('$elsewhere')", qr/did not run on all nodes/, 'forget_customer() while a node is down');
# the others have done it
$plain->sql("SELECT profile_stream.forget_customer('$elsewhere')");
foreach my $node ($coordinator, $one)
{
	my $down = '127.0.0.1:' . $two->port;
	is($node->sql("SELECT node FROM profile_stream.node_health WHERE status = 'error' AND subject = 'node'"), $down, 'node_health has the node that is down, on ' . $node->name);
	foreach my $view ('streams', 'partitions', 'topics', 'dead_letters')
	{
		is($node->sql("SELECT node, node_error ~ 'connect' FROM profile_stream.node_$view WHERE node_error IS NOT NULL"), "$down|t", "node_$view has it on " . $node->name);
	}
}
$coordinator->fails_like('SELECT count(*) FROM profile_stream.profiles_changed_since()', qr/a node of the cluster has no bookmark/, 'profiles_changed_since() while a node is down');
$two->start;

# what does not work says so
$coordinator->fails_like($_->[0], $_->[1], $_->[0]) foreach
  [ "SELECT * FROM profile_stream.training_set('SELECT ''c1''::text AS customer_id, now() AS as_of')", qr/is distributed by Citus/ ],
  [ "SELECT profile_stream.serve_profile('c9')", qr/is on another node/ ];
is($_->sql("SELECT sum(pg_relation_size(r)) FROM unnest(profile_stream_internal.sharded_tables()) r"), 0, 'no row is beside the shards of ' . $_->name) foreach @nodes;

# back on one server, with all that is blocked
$coordinator->sql("SELECT profile_stream.forget_customer('c40', block => true)", 'SELECT profile_stream.undistribute()');
$plain->sql("SELECT profile_stream.forget_customer('c40', block => true)");
is($coordinator->sql($reads{$_}), $plain->sql($reads{$_}), "on one server again: $_") foreach sort keys %reads;
is($coordinator->sql("SELECT profile_stream.apply_event('" . event('on one', 'c40') . "')"), 'blocked', 'a blocked customer');
is($two->sql('SELECT count(*) FROM profile_stream_internal.blocked_customers'), 0, 'nothing is left on the nodes');
$plain->is_clean('nothing crashed');

done_testing();

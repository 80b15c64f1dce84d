# A topic whose partitions are as the shards of the profiles: each node reads the partitions of its shards, and no message of
# others. Workers are killed and shards move while events flow. Nothing is remembered of event ids, so that an event
# applied twice shows. A message in another partition than that of its customer is a dead letter, once.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use IPC::Run ();
use PostgreSQL::Test::Utils;
use ProfileStream::Broker;
use ProfileStream::Citus qw(counters);
use ProfileStream::Node qw(event);
use ProfileStream::Shards qw(make_shards give_shard run_call);
use Test::More;

plan skip_all => 'needs a Kafka (KAFKA_HOME)' unless ProfileStream::Broker::available();

my $seed = $ENV{PS_SEED} // int(rand(1_000_000));
srand($seed);
my $broker = ProfileStream::Broker->new(topics => [ [ 'events', 4 ], [ 'three', 3 ] ]);
my ($plain, $one, $two) = map { ProfileStream::Node->start_new($_) } qw(plain one two);
my @nodes = ($one, $two);
make_shards(@nodes);
my %shard = map { split(/\|/) } split(/\n/, $plain->sql("SELECT 'c' || i, profile_stream.kafka_partition('c' || i, 4, 'citus') FROM generate_series(1, 300) i"));
my $options = sprintf('"bootstrap_servers": "%s", "dedupe_retention": "0", "workers": 2, "batch_size": 100, "partitioner": "citus"', $broker->bootstrap);
run_call($_, 1, qq({"name": "crm", "topic": "events", $options}), '{1,3,1}') foreach @nodes;
$plain->create_stream('crm', $broker, 'events', dedupe_retention => "'0'", batch_size => 100);

my ($produced, @here) = (0);

sub rows
{
	my ($n) = @_;
	my @rows = map {
		my $customer = 'c' . (1 + int(rand(300)));
		my $value = rand() < 0.03 ? '{' : event("e$_", $customer, type => 'transaction.completed', payload => '{"amount": 1}');
		[ $shard{$customer}, rand() < 0.5 ? $customer : '', $value ]
	} $produced + 1 .. $produced + $n;
	$produced += $n;
	return @rows;
}

sub equals_plain
{
	my ($name) = @_;
	my $columns = 'customer_id, version, updated_at, first_event_at, watermark, event_counts, window_state';
	my $letters = 'SELECT partition, kafka_offset, kind FROM profile_stream.dead_letters';
	my $sum = "SELECT COALESCE(sum(consumed - replayed), 0) FROM profile_stream_internal.stream_offsets";

	$plain->poll_query_until('postgres', "SELECT ($sum) = $produced");
	foreach (1 .. 1800)
	{
		last if $one->sql($sum) + $two->sql($sum) == $produced;
		select(undef, undef, undef, 0.1);
	}
	is(join('|', counters(@nodes)), join('|', counters($plain)), "$name: each event counts once")
	  or diag(map { $_->name . ":\n" . $_->sql('SELECT topic, partition, state, next_offset, end_offset, error FROM profile_stream.stat_partitions', 'SELECT state, error FROM profile_stream.stat_streams') . "\n" } @nodes);
	is(join("\n", sort map { split(/\n/, $_->sql("SELECT public.rows_of('materialized_profiles', '$columns')")) } @nodes),
		join("\n", sort(split(/\n/, $plain->sql("SELECT ROW($columns)::text FROM profile_stream.materialized_profiles")))), "$name: profiles");
	is(join("\n", sort map { split(/\n/, $_->sql($letters)) } @nodes), join("\n", sort(split(/\n/, $plain->sql($letters)))), "$name: dead letters");
	is($_->sql("SELECT COALESCE(sum(elsewhere), 0) FROM profile_stream.stat_partitions"), '0', "$name: " . $_->name . ' reads no message of the other node') foreach @nodes;
}

$broker->produce('events', rows(1000));
equals_plain('two nodes');
is($one->sql('SELECT partition, state FROM profile_stream.stat_partitions ORDER BY 1'), "0|running\n2|running", 'a node has the partitions of its shards');
# who waits on one node waits for all of them
$_->sql("SELECT profile_stream.wait_for_stream('crm')") foreach @nodes;
$two->sql("SELECT profile_stream.wait_for_offset('crm', 0, 5)");
$two->set_failpoint('before_commit:wait');
$broker->produce('events', map { [ $shard{$_}, $_, event("wait$_", $_, type => 'transaction.completed', payload => '{"amount": 1}') ] } map { "c$_" } 1 .. 20);
$produced += 20;
$one->fails_like("SELECT profile_stream.wait_for_stream('crm', '1 s')", qr/stream "crm" did not reach the end in time/, 'a node waits for the other one');
$one->fails_like("CALL profile_stream.await_stream('crm', '1 s')", qr/stream "crm" did not reach the end in time/, 'also without a snapshot');
$two->set_failpoint('');
$one->sql("SELECT profile_stream.wait_for_stream('crm')", "CALL profile_stream.await_stream('crm')");
equals_plain('waited for');
$two->stop('immediate');
$one->fails_like("SELECT profile_stream.wait_for_stream('crm')", qr/not all nodes say how far stream "crm" is/, 'a node that is down');
$two->start;

# workers are killed, and shards move, while events flow
my ($owner, $receiver) = ($one, $two);
foreach my $step (qw(after_fence after_upsert after_offsets before_commit))
{
	my $node = $nodes[ int(rand(2)) ];
	my $from = -s $node->logfile;

	$node->set_failpoint("$step:kill");
	$broker->produce('events', rows(300));
	$node->expect_signals(1);
	ok($node->wait_for_log(qr/was terminated by signal 9/, $from), "a worker is killed at $step");
	$node->set_failpoint('');
	$node->wait_alive;
	give_shard($owner, $receiver, 0);
	($owner, $receiver) = ($receiver, $owner);
	$broker->produce('events', rows(300));
	equals_plain("a worker was killed, shard 0 has moved");
}
give_shard($one, $two, 0);
$broker->produce('events', rows(300));
equals_plain('shard 0 has left');
is($one->sql('SELECT partition, state, lag FROM profile_stream.stat_partitions ORDER BY 1'), "0|elsewhere|\n2|running|0", 'the node of before says that another one reads its partition');
is($one->sql("SELECT lag, lag_seconds FROM profile_stream.stat_streams"), '0|0', 'and is not behind');
is($one->sql("SELECT count(*) FROM profile_stream.health() WHERE subject ~ 'partition'"), '0', 'nor has a problem');
$_->sql("SELECT profile_stream.wait_for_stream('crm')") foreach @nodes;
is($two->sql('SELECT string_agg(DISTINCT partition::text, $$,$$) FROM profile_stream_internal.stream_leases WHERE partition IS NOT NULL'), '0,1,3', 'the other node reads it');

# the wrong partition
my $before = $plain->sql('SELECT sum(version) FROM profile_stream.materialized_profiles');
$broker->produce('events', map { my $customer = "c$_"; [ ($shard{$customer} + 1 + $_ % 3) % 4, $customer, event("w$_", $customer) ] } 1 .. 40);
my $wrong = q{SELECT count(*) FROM profile_stream.dead_letters WHERE errors::text ~ 'Wrong partition: it is not the shard of the customerId'};
foreach (1 .. 600)
{
	last if $one->sql($wrong) + $two->sql($wrong) == 40;
	select(undef, undef, undef, 0.1);
}
is($one->sql($wrong) + $two->sql($wrong), 40, 'messages in another partition are dead letters, each of one node');
is($one->sql("SELECT count(*) FROM public.rows_of('materialized_profiles', 'version')") + $two->sql("SELECT count(*) FROM public.rows_of('materialized_profiles', 'version')"),
	$plain->sql('SELECT count(*) FROM profile_stream.materialized_profiles'), 'and make no profile');
my $sum = q{SELECT COALESCE(sum(trim(both '()' from v)::bigint), 0) FROM public.rows_of('materialized_profiles', 'version') v};
is($one->sql($sum) + $two->sql($sum), $before, 'nor change one');

# a topic with another number of partitions
run_call($_, 2, qq({"name": "three", "topic": "three", $options}), '{2,3,1}') foreach @nodes;
ok($_->poll_query_until('postgres', q{SELECT error ~ 'topic "three" has 3 partitions, and profiles have 4 shards' FROM profile_stream.stat_streams WHERE stream = 'three' AND state = 'retrying'}),
	$_->name . ' does not read a topic with another number of partitions') foreach @nodes;
is($_->sql("SELECT state FROM profile_stream.stat_streams WHERE stream = 'crm'"), 'running', 'the other stream goes on') foreach @nodes;

# a node without shards reads nothing, and nothing is wrong
give_shard($two, $one, 0, 1, 3);
run_call($_, 3, qq({"name": "again", "topic": "events", "start_from": "latest", $options}), '{3,3,1}') foreach @nodes;
$_->sql("SELECT profile_stream.wait_for_stream('again')", "SELECT profile_stream.wait_for_stream('crm')") foreach @nodes;
ok($_->poll_query_until('postgres', q{SELECT string_agg(state || lag::text || lag_seconds, ',' ORDER BY stream) ~ '^running00,running00$' FROM (SELECT state, COALESCE(lag, 0) AS lag, COALESCE(lag_seconds, 0) AS lag_seconds, stream
	FROM profile_stream.stat_streams WHERE stream IN ('crm', 'again')) s}), $_->name . ': both streams run, and none is behind')
  or diag($_->sql('SELECT stream, state, lag, lag_seconds, error FROM profile_stream.stat_streams')) foreach @nodes;

# a customer whose shard no node has when it is asked, as when it moves meanwhile, is not missed
is($two->sql("SELECT profiles FROM profile_stream.forget_customer('c1')"), '1', 'a customer of another node is forgotten');
$_->sql('SET allow_system_table_mods = on', "UPDATE pg_dist_placement SET groupid = 9 WHERE shardid % 100 = $shard{c2}", 'SELECT public.invalidate()') foreach @nodes;
$one->fails_like("SELECT * FROM profile_stream.$_", qr/the customer was on none of the nodes: the shard moved meanwhile/, $_) foreach "forget_customer('c2')", "export_customer('c2')";

# a producer finds the partition as the servers do
my @customers = ((map { 'c' . 'x' x ($_ % 40) . $_ } 1 .. 200), "Zo\xc3\xab", 'a');
my ($output, $errors);
IPC::Run::run([ 'python3', "$FindBin::RealBin/../../examples/partition.py", 32 ], '<', \join("\n", @customers), '>', \$output, '2>', \$errors) or diag($errors);
is($output, join('', map { "$_\n" } split(/\n/, $plain->sql("SELECT profile_stream.kafka_partition(k, 32, 'citus') FROM unnest(ARRAY[" . join(', ', map { "'$_'" } @customers) . ']) WITH ORDINALITY u(k, n) ORDER BY n'))),
	'examples/partition.py');

done_testing();

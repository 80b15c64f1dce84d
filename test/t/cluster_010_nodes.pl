# Two servers with a catalogue as Citus has it, each with some shards of the profiles, read one topic. Workers are killed at each
# step of a transaction, servers stop, and shards move under the lock that Citus takes, or are to move and do not, while events flow. Nothing is remembered
# of event ids, so that an event applied twice shows: a server that has all of it is the measure. cluster_020 has Citus itself.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use IPC::Run ();
use PostgreSQL::Test::Utils;
use ProfileStream::Broker;
use ProfileStream::Citus qw(counters wait_counters);
use ProfileStream::Node qw(event);
use ProfileStream::Shards qw(make_shards has_shards give_shard connection run_call);
use Test::More;
use Time::HiRes qw(usleep);

plan skip_all => 'needs a Kafka (KAFKA_HOME)' unless ProfileStream::Broker::available();

my $seed = $ENV{PS_SEED} // int(rand(1_000_000));
srand($seed);
my @steps = qw(after_fence after_lock after_fold after_upsert after_dead_letters after_offsets before_commit after_commit);
my $moves = 4;
my $parts = 6 + @steps + $moves;
my $events = ProfileStream::Node::generate(seed => $seed, events => 500 * $parts, customers => 300, partitions => 3, repeats => 0, parts => $parts);
my @files = @{ $events->{files} };
my $broker = ProfileStream::Broker->new(topics => [ [ 'events', 3 ], [ 'keyed', 2 ], [ 'left', 2 ], [ 'right', 3 ], [ 'third', 2 ], [ 'late', 2 ], [ 'parts', 2 ] ]);
my ($plain, $one, $two) = map { ProfileStream::Node->start_new($_) } qw(plain one two);
my @nodes = ($one, $two);
my $produced = 0;
my $shards = ProfileStream::Shards::SHARDS;

make_shards(@nodes);

sub produce_part
{
	my $file = shift @files;
	$produced += () = slurp_file($file) =~ /\n/g;
	return $file;
}

sub equals_plain
{
	my ($name) = @_;
	my %columns = (
		materialized_profiles => 'customer_id, version, updated_at, first_event_at, watermark, total_balance, account_count, attributes, event_counts, window_state',
		# upkeep removes samples that have expired, at a time of its own
		window_chunks => q{customer_id, metric, chunk_no, from_at, to_at, count, sum, min, max, CASE WHEN to_at > now() - interval '90 days' THEN samples END});
	my $letters = 'SELECT partition, kafka_offset, kind, customer_id FROM profile_stream.dead_letters';

	foreach my $node ($plain, grep { has_shards($_) } @nodes)
	{
		$node->poll_query_until('postgres', "SELECT COALESCE(sum(next_offset), 0) = $produced FROM profile_stream_internal.stream_offsets")
		  or diag($node->name . ': ' . $node->sql('SELECT partition, next_offset, error FROM profile_stream_internal.stream_offsets', 'SELECT state, error FROM profile_stream.stat_streams'));
	}
	is(join('|', wait_counters($plain, @nodes)), join('|', counters($plain)), "$name: each event counts once");
	foreach my $table (sort keys %columns)
	{
		my @rows = sort map { split(/\n/, $_->sql("SELECT public.rows_of('$table', \$c\$$columns{$table}\$c\$)")) } @nodes;
		my $schema = $table eq 'window_chunks' ? 'profile_stream_internal' : 'profile_stream';
		my @rows_of_plain = sort(split(/\n/, $plain->sql("SELECT ROW($columns{$table})::text FROM $schema.$table")));
		is_deeply(\@rows, \@rows_of_plain, "$name: rows of $table");
	}
	is(join("\n", sort map { split(/\n/, $_->sql($letters)) } @nodes), join("\n", sort(split(/\n/, $plain->sql($letters)))), "$name: dead letters");
}

my $create = "profile_stream.create_stream('crm', bootstrap_servers => '@{[$broker->bootstrap]}', topic => 'events', dedupe_retention => '0', workers => 2, batch_size => 100)";
$plain->sql("SELECT $create");
# the call as the coordinator sends it, with a value or the default of each argument
my $given = sprintf('{"name": "crm", "bootstrap_servers": "%s", "topic": "events", "dedupe_retention": "0", "workers": 2, "batch_size": 100}', $broker->bootstrap);

run_call($_, 1, $given, '{1,3,1}') foreach @nodes;

# a stream that says that keys are customers: nodes pass over messages by their keys alone, so those with another one, and with none, must be dead letters, each once
my $keyed = 0;

sub produce_keyed
{
	my @rows = map {
		my $customer = 'key' . int(rand(40));
		my $kind = rand();
		my $key = $kind < 0.6 ? $customer : $kind < 0.7 ? qq("$customer") : $kind < 0.85 ? 'key' . int(rand(40)) : $kind < 0.9 ? undef : '"';
		my $value = rand() < 0.05 ? undef : rand() < 0.05 ? '{' : event("k$_", $customer, type => 'transaction.completed', payload => '{"amount": 1}');
		[ int(rand(2)), $key // '', $value ]
	} $keyed + 1 .. $keyed + 400;
	$keyed += @rows;
	$produced += @rows;
	$broker->produce('keyed', @rows);
}

# The same and more, to all topics but that of the decoder: of a message that is read again some of its events would count twice.
sub produce_all
{
	produce_keyed();
	produce_others(@$_, 100) foreach [ 'left', 2 ], [ 'right', 3 ], [ 'late', 2 ];
}
{
	# of before the time at which the stream starts: each node finds the same offset
	local $ENV{PRODUCE_TIMESTAMP} = 1_600_000_000_000;
	produce_keyed();
}
$plain->sql("SELECT @{[$create =~ s/'crm'/'keyed'/r =~ s/'events'/'keyed'/r =~ s/\)$/, message_key => 'customer', start_from => '2022-01-01 00:00:00+00')/r]}");
foreach my $node (@nodes)
{
	my $with_key = $given =~ s/"crm"/"keyed"/r =~ s/"events"/"keyed"/r =~ s/\}$/, "message_key": "customer", "start_from": "2022-01-01 00:00:00+00"}/r;
	run_call($node, 2, $with_key, '{2,3,1}');
}
# Produces to a topic; each customer is in one of the topics, so that the order of its events is known.
my $others = 0;

sub produce_others
{
	my ($topic, $partitions, $n) = @_;
	my @rows = map { my $customer = int(rand(60)); [ $customer % $partitions, "$topic$customer", event("$topic$_", "$topic$customer", type => 'transaction.completed', payload => '{"amount": 1}') ] } $others + 1 .. $others + $n;
	$others += $n;
	$produced += $n;
	$broker->produce($topic, @rows);
}

# two topics, which the nodes number differently; and a stream that starts at the end, wherever its shards are later
$plain->sql("SELECT @{[$create =~ s/'crm'/'both'/r =~ s/topic => 'events'/topics => '{left,right}'/r]}");
foreach my $node (@nodes)
{
	my $topics = $node == $one ? '{left,right}' : '{right,left}';
	run_call($node, 3, $given =~ s/"crm"/"both"/r =~ s/"topic": "events"/"topics": "$topics"/r, '{3,3,1}');
}
produce_others('late', 2, 60);
$plain->sql("SELECT @{[$create =~ s/'crm'/'late'/r =~ s/'events'/'late'/r =~ s/\)$/, start_from => 'latest')/r]}");
run_call($_, 4, $given =~ s/"crm"/"late"/r =~ s/"events"/"late"/r =~ s/\}$/, "start_from": "latest"}/r, '{4,3,1}') foreach @nodes;
ok($_->poll_query_until('postgres', "SELECT count(*) = 2 FROM profile_stream_internal.stream_offsets WHERE stream_id = 4"), $_->name . ' knows where the end was') foreach $plain, @nodes;
is($_->sql("SELECT count(*) FROM public.rows_of('shard_offsets', 'stream_id') r WHERE r = '(4)'"), 4, 'and so do the shards of ' . $_->name) foreach @nodes;

# a decoder makes three events of each message, of two customers: more than a transaction takes, which therefore ends within a message
$_->sql(q{CREATE FUNCTION public.split(value bytea, key bytea, headers jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$SELECT convert_from($1, 'UTF8')::jsonb$$}) foreach $plain, @nodes;
$plain->sql("SELECT @{[$create =~ s/'crm'/'parts'/r =~ s/'events'/'parts'/r =~ s/\)$/, decoder => 'public.split(bytea,bytea,jsonb)')/r]}");
run_call($_, 5, $given =~ s/"crm"/"parts"/r =~ s/"events"/"parts"/r =~ s/\}$/, "decoder": "public.split(bytea,bytea,jsonb)"}/r, '{5,3,1}') foreach @nodes;
$broker->produce('parts', map { my $n = $_; [ $n % 2, '', '[' . join(',', map { event("p$n-$_", 'part' . (($n + ($_ > 1)) % 50 * 2 + $n % 2), type => 'transaction.completed', payload => '{"amount": 1}') } 0 .. 2) . ']' ] } 1 .. 400);
$produced += 400;
foreach my $topic ('left', 'right')
{
	produce_others($topic, 2, 100);
}

$one->fails_like("SELECT profile_stream.pause_stream('crm')", qr/is called on the coordinator/, 'pause_stream() on a node');

$broker->produce_file('events', produce_part());
produce_keyed();
equals_plain('two nodes');
my $reasons = "SELECT errors, customer_id, kafka_offset FROM profile_stream.dead_letters WHERE topic = 'keyed' AND errors::text ~ 'key'";
is(join("\n", sort map { split(/\n/, $_->sql($reasons)) } @nodes), join("\n", sort(split(/\n/, $plain->sql($reasons)))), 'what has no key or another one says so');
cmp_ok(scalar(split(/\n/, $plain->sql($reasons))), '>', 40, 'and there are such messages');
is($_->sql("SELECT sum(start_offset) FROM profile_stream_internal.stream_offsets o JOIN profile_stream.streams s USING (stream_id) WHERE s.name = 'keyed'"), '400', $_->name . ' started at the time') foreach $plain, @nodes;
cmp_ok($_->sql('SELECT sum(elsewhere) FROM profile_stream.stat_partitions'), '>', 0, $_->name . ' passes over what is elsewhere') foreach @nodes;

# a worker dies at each step, and a server is stopped meanwhile
foreach my $step (@steps)
{
	my $node = $nodes[ int(rand(2)) ];
	my $producer = $broker->start_producing('events', produce_part());
	my $from = -s $node->logfile;
	$node->set_failpoint("$step:kill");
	$node->expect_signals(1) if $node->poll_query_until('postgres', 'SELECT true') && eval { local $PostgreSQL::Test::Utils::timeout_default = 20; $node->wait_for_log(qr/was terminated by signal 9/, $from); 1 };
	$node->set_failpoint('');
	$broker->finish_producing($producer);
	$node->wait_alive;
}
foreach my $node (@nodes)
{
	$node->stop('immediate');
	$broker->produce_file('events', produce_part());
	produce_all();
	$node->start;
}
equals_plain("killed at each step, seed $seed");

# The server that has a shard, and the other one.
sub owner_and_receiver
{
	my ($shard) = @_;
	return $one->sql("SELECT groupid = 1 FROM pg_dist_placement WHERE shardid = @{[100 + $shard]}") eq 't' ? ($one, $two) : ($two, $one);
}

# a move that waits for a worker at the fence, which holds it up: it is given up, its server crashes with the worker, or the worker ends and it goes on
foreach my $fault ('cancelled', 'crashed', 'released')
{
	my ($owner, $receiver) = owner_and_receiver(0);
	my $from = -s $owner->logfile;
	$owner->set_failpoint('after_fence:wait');
	my $producer = $broker->start_producing('events', produce_part());
	$owner->wait_for_log(qr/failpoint "after_fence:wait"/, $from);
	my $output = '';
	my $move = IPC::Run::start([ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', $owner->connstr('postgres'), '-c', 'SET allow_system_table_mods = on',
			'-c', "SELECT public.give_shard(0, '@{[connection($receiver)]}')" ], '>', \$output, '2>&1');
	ok($owner->poll_query_until('postgres', "SELECT count(*) > 0 FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE NOT l.granted AND a.query ~ 'give_shard'"), "a move waits for a worker at the fence, to be $fault");
	if ($fault eq 'cancelled')
	{
		$owner->sql("SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE query ~ 'give_shard' AND pid <> pg_backend_pid()");
	}
	elsif ($fault eq 'crashed')
	{
		$owner->kill_process($owner->worker_pid);
	}
	else
	{
		$owner->sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'profile_stream worker'");
	}
	is($move->finish ? 'moved' : 'not moved', $fault eq 'released' ? 'moved' : 'not moved', "a move that is $fault") or diag($output);
	$owner->set_failpoint('');
	$broker->finish_producing($producer);
	equals_plain("a move that was $fault");
}

# shards move while events flow; at the end one server has all of them
foreach my $shard (0 .. $moves - 1)
{
	my $producer = $broker->start_producing('events', produce_part());
	usleep(int(rand(300_000)));
	my ($owner, $receiver) = owner_and_receiver($shard);
	produce_all();
	give_shard($owner, $receiver, $shard);
	$broker->finish_producing($producer);
	equals_plain("shard $shard moved");
}
my ($owner) = grep { $_->sql("SELECT groupid = (SELECT groupid FROM pg_dist_local_group) FROM pg_dist_placement WHERE shardid = 100") eq 't' } @nodes;
my $receiver = $owner == $one ? $two : $one;
give_shard($owner, $receiver, split(/\n/, $owner->sql('SELECT shardid - 100 FROM pg_dist_placement JOIN pg_dist_local_group USING (groupid) WHERE shardid < 200')));
$broker->produce_file('events', produce_part()) if @files;
equals_plain('one node has all shards');
is(has_shards($owner), '', 'and the other one has none');
is($_->sql('SELECT count(*) FROM unnest(profile_stream_internal.sharded_tables()) t WHERE pg_relation_size(t) > 0'), '0', $_->name . ': no row outside of the shards') foreach @nodes;

# a stream that reads another topic begins it as that says, and not at the offsets of the one before
produce_others('third', 2, 20);
$plain->sql("SELECT profile_stream.alter_stream('both', topics => '{right,third}')");
run_call($_, 6, '{"name": "both", "topics": "{right,third}"}', '{6,3,1}', 'alter_stream') foreach @nodes;
equals_plain('another topic');

# a shard that was split is not read on
$receiver->sql('UPDATE profile_stream_internal.shard_offsets_400 SET topic = $$-2147483648:0$$ WHERE stream_id = 0');
$receiver->kill_process($receiver->worker_pid);
ok($receiver->poll_query_until('postgres', "SELECT COALESCE((SELECT bool_or(error ~ 'was split') FROM profile_stream.stat_streams), false)"), 'a shard that was split stops the stream, and it says why');

$_->stop('immediate') foreach @nodes;
$plain->stop('fast');
$broker->stop;
done_testing();

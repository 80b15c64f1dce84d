# Two servers with a catalogue as Citus has it, which are copies of one, deliver what a stream has for sinks: each what it has itself.
# Each dead letter comes once, whatever ends the relays of both. Shards move while rows of them are being delivered: what the
# old node has under way has no effect after the new one, and nothing is lost.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Utils;
use ProfileStream::Broker;
use ProfileStream::Node qw(event);
use ProfileStream::Redis;
use ProfileStream::Shards qw(give_shard make_shards run_call);
use ProfileStream::Topic;
use Test::More;

plan skip_all => 'needs a Kafka (KAFKA_HOME)' unless ProfileStream::Broker::available();

my $broker = ProfileStream::Broker->new(topics => [ [ 'events', 2 ], [ 'dead', 2 ], [ 'changelog', 2 ] ]);
my $redis = ProfileStream::Redis->new;
my $changelog = ProfileStream::Topic->new($broker, 'changelog');
my $letters = ProfileStream::Topic->new($broker, 'dead');
# copies have the same system identifier, and the same number of the database
my $one = ProfileStream::Node->start_new('one', init => { allows_streaming => 1 });
$one->backup('copy');
my $two = ProfileStream::Node->new('two');
$two->{expected_signals} = 0;
$two->init_from_backup($one, 'copy');
$two->start;
my @nodes = ($one, $two);
make_shards(@nodes);
my $produced = 0;
my $broken = 0;

# Events of customers of both nodes, and messages that become dead letters.
sub produce
{
	my @rows = map { my $customer = 'c' . int(rand(50)); $produced++; rand() < 0.2 ? [ $_ % 2, "k$produced", 'broken ' . $broken++ ] : [ $_ % 2, $customer, event("e$produced", $customer) ] } 1 .. 100;
	$broker->produce('events', @rows);
	foreach my $node (@nodes)
	{
		$node->poll_query_until('postgres', "SELECT COALESCE(sum(next_offset), 0) = $produced FROM profile_stream_internal.stream_offsets")
		  or diag($node->name . ': ' . $node->sql('SELECT * FROM profile_stream_internal.stream_offsets', 'SELECT state, error FROM profile_stream.stat_streams'));
	}
	return;
}

sub wait_delivered { return is(scalar(grep { $_->wait_sink('crm', "backlog = 0 AND state IN ('idle', 'running')", $_[0]) } @nodes), 2, "$_[1]: both nodes have delivered"); }

# How many of the topic's dead letters are there more than once, and how many are not there.
sub letters_equal
{
	my ($name, $times) = @_;
	wait_delivered('dead_letters', $name);
	my (%found, %numbers);
	foreach my $message ($letters->messages)
	{
		$found{ $message->[3] }++;
		$numbers{ join(' ', $message->[4] =~ /profile_stream\.(?:dead_letter_id|node)=\d+/g) } = 1;
	}
	is(scalar(keys %numbers), $broken, "$name: each by its number and node");
	is(scalar(keys %found), $broken, "$name: all dead letters");
	is(join(' ', grep { $found{$_} != $times } sort keys %found), '', "$name: each $times times");
	return;
}

# The documents of all profiles by their customers, as the nodes of these have them.
sub documents
{
	return { map { split(/\|/, $_, 2) } map { split(/\n/, $_->sql("SELECT c, profile_stream.get_profile(c) FROM (SELECT trim('()' FROM r) FROM public.rows_of('materialized_profiles', 'customer_id') r) AS x(c)")) } @nodes };
}

# Passed tests when Redis has the documents of all profiles, and the changelog as the last of each customer, and in none a version went back.
sub sinks_equal
{
	my ($name) = @_;
	wait_delivered('redis', $name);
	wait_delivered('changelog', $name);
	my $documents = documents();
	is_deeply(ProfileStream::Topic::without_windows($redis->values_of('profile:')), ProfileStream::Topic::without_windows($documents), "$name: Redis has the profiles");
	$changelog->ends_with($documents, $name);
	return;
}

# The server that has a customer, the other one, and the shard.
sub place_of
{
	my ($customer) = @_;
	my $shard = $one->sql("SELECT (hashtext('$customer' COLLATE \"C\")::bigint + 2147483648) / 1073741824");
	my $is_one = $one->sql("SELECT groupid = 1 FROM pg_dist_placement WHERE shardid = @{[100 + $shard]}") eq 't';
	return $is_one ? ($one, $two, $shard) : ($two, $one, $shard);
}

my $options = '"name": "crm", "bootstrap_servers": "' . $broker->bootstrap . '", "topic": "events", "dead_letter_topic": "dead", "dead_letter_pause_ratio": 1, "redis": "' . $redis->socket . '", "redis_ttl": "1 day", "changelog_topic": "changelog"';
run_call($_, 1, "{$options}", '{1,3,1}') foreach @nodes;
produce();
letters_equal('two nodes', 1);
cmp_ok($_->sql('SELECT count(*) FROM profile_stream.dead_letters'), '>', 0, $_->name . ' has some of them') foreach @nodes;
is($_->sql('SELECT count(*) FROM profile_stream.stream_log WHERE reason ~ \'FENCED\''), '0', $_->name . ' was not shut out by the other one') foreach @nodes;
sinks_equal('two nodes');
is($one->sql("SELECT count(DISTINCT node), count(*), sum(delivered), max(node_error) FROM profile_stream.node_sinks WHERE sink = 'dead_letters'"), "2|2|$broken|", 'node_sinks has both');

# the relays end at each step
foreach my $step ('relay_before_send', 'relay_before_commit', 'relay_after_send', 'relay_after_delete')
{
	foreach my $node (@nodes)
	{
		my $from = -s $node->logfile;
		$node->set_failpoint("$step:kill");
		$broker->produce('events', [ 0, 'k', 'broken ' . $broken++ ], [ 0, 'k', 'broken ' . $broken++ ], [ 0, 'k', 'broken ' . $broken++ ], [ 1, 'k', 'broken ' . $broken++ ]);
		$produced += 4;
		$node->expect_signals(1) if eval { local $PostgreSQL::Test::Utils::timeout_default = 20; $node->wait_for_log(qr/was terminated by signal 9/, $from); 1 };
		$node->set_failpoint('');
		$node->wait_alive;
	}
	produce();
	letters_equal($step, 1) if $step =~ /before/;	# the end after Kafka's commit repeats the batch
	sinks_equal($step);
}

# The relay of the old node has read a document and not sent it yet, when the shard moves and the new node delivers a newer one, or
# that the customer is forgotten. Then it goes on.
foreach my $what ('changes', 'is forgotten', 'is forgotten and comes back')
{
	my ($owner, $receiver, $shard) = place_of('moved');
	my $from = -s $owner->logfile;
	$owner->set_failpoint('relay_before_send:wait');
	$owner->sql("SELECT profile_stream.apply_event('@{[event('old' . $what, 'moved')]}')");
	ok($owner->wait_for_log(qr/failpoint "relay_before_send:wait".*failpoint "relay_before_send:wait"/s, $from), "who moved $what: both relays wait");
	give_shard($owner, $receiver, $shard);
	$receiver->sql("SELECT profile_stream.forget_customer('moved')") if $what =~ /forgotten/;
	$receiver->sql("SELECT profile_stream.apply_event('@{[event('new' . $what, 'moved')]}')") if $what ne 'is forgotten';
	is(scalar(grep { $receiver->wait_sink('crm', 'backlog = 0', $_) } qw(redis changelog)), 2, "who moved $what: the new node has delivered");
	$owner->set_failpoint('');
	produce();
	sinks_equal("who moved $what");
	is($owner->sql("SELECT count(*) FROM public.rows_of('sink_pending', 'customer_id') r WHERE r = '(moved)'"), '0', "who moved $what: and the old one has nothing left");
}

# the relays of the old node do not run when the shard moves: what is in its outbox comes with it
foreach my $shard (0 .. 3)
{
	my ($customer) = grep { (place_of($_))[2] == $shard } map { "rest$_" } 1 .. 100;
	my ($owner, $receiver) = place_of($customer);
	$owner->set_failpoint('relay_before_send:error');
	produce();
	$owner->sql("SELECT profile_stream.apply_event('@{[event('rest' . $shard, $customer)]}')");
	give_shard($owner, $receiver, $shard);
	is(scalar(grep { $receiver->wait_sink('crm', 'backlog = 0', $_) } qw(redis changelog)), 2, "shard $shard: the new node delivers what is left");
	$owner->set_failpoint('');
	sinks_equal("shard $shard");
}

# who is forgotten is gone in both, by a call on any node; what a reader did not find in Redis comes again by a call on the customer's node
my ($home, $away) = place_of('c1');
is($away->sql("SELECT profiles FROM profile_stream.forget_customer('c1')"), 1, 'forget_customer() on another node');
sinks_equal('forgotten');
($home, $away) = place_of('c2');
$redis->command('DEL', 'profile:c2');
$away->fails_like("SELECT profile_stream.serve_profile('c2')", qr/customer "c2" is on another node/, 'serve_profile() on another node');
is($home->sql("SELECT profile_stream.serve_profile('c2') ->> 'customerId'"), 'c2', 'serve_profile()');
sinks_equal('served');

# again, by all nodes; one that is down is not passed over
$redis->command('FLUSHALL');
cmp_ok($one->sql("SELECT profile_stream.resync_sink('crm', 'redis')"), '>', 40, 'resync_sink() of Redis');
sinks_equal('resync_sink()');
is($two->sql("SELECT profile_stream.resync_sink('crm', 'dead_letters')"), $broken, 'resync_sink() counts those of all nodes');
wait_delivered('dead_letters', 'resync_sink()');
$one->stop('fast');
$two->fails_like("SELECT profile_stream.resync_sink('crm', 'dead_letters')", qr/did not run on all nodes/, 'resync_sink() while a node is down');
is($two->sql('SELECT count(*), count(node_error) FROM profile_stream.node_sinks'), '4|1', 'node_sinks says so');
$one->start;

# without transactions nobody could be shut out of a topic
run_call($_, 2, '{"name": "crm", "options": {"transactions": "false"}}', '{2,3,1}', 'alter_stream') foreach @nodes;
ok($_->wait_sink('crm', "state = 'retrying' AND error ~ 'needs transactions' AND hint ~ 'Remove'", 'changelog'), $_->name . ' delivers no changelog without transactions') foreach @nodes;

$_->stop('immediate') foreach @nodes;
$broker->stop;
done_testing();

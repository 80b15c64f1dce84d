# The changelog topic: its messages, a missing topic, profiles that are too large, an erasure, and the server killed at each
# step of the relay. The stream goes on throughout, and in the end the topic says what get_profile() says.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Utils;
use ProfileStream::Broker;
use ProfileStream::Node;
use ProfileStream::Topic;
use Test::More;

plan skip_all => 'needs a Kafka (KAFKA_HOME)' unless ProfileStream::Broker::available();

my $events = ProfileStream::Node::generate(seed => $ENV{PS_SEED} // int(rand(1_000_000)), events => 5_000, customers => 500, parts => 2);
my $broker = ProfileStream::Broker->new(topics => [ [ 'events', 4 ] ], proxied => 1, settings => { 'inter.broker.listener.name' => 'PROXIED' });
my $node = ProfileStream::Node->start_new('main');
my $topic = ProfileStream::Topic->new($broker, 'profile-updates');
my $n = 0;

sub sink { return $node->safe_psql('postgres', "SELECT $_[0] FROM profile_stream.stat_sinks WHERE sink = 'changelog'"); }

sub wait_sink { return $node->wait_sink('crm', $_[0], 'changelog'); }

# Applies an event of a type without Kafka.
sub apply
{
	my ($customer, $type, $payload) = @_;
	$n++;
	return $node->safe_psql('postgres', "SELECT profile_stream.apply_event('{\"eventId\": \"e$n\", \"customerId\": \"$customer\","
		  . " \"eventType\": \"$type\", \"timestamp\": \"2026-01-01T00:00:00Z\", \"payload\": {" . ($payload // '') . "}}')");
}

my $begin = $node->safe_psql('postgres', 'SELECT now()');
foreach my $case (
	[ "changelog_topic => 'events'", 'must not be the topic that is read' ],
	[ "changelog_topic => 'a b'", 'must have at most 249 letters' ],
	[ "changelog_topic => 'a', dead_letter_topic => 'a'", 'must differ' ])
{
	$node->fails_like("SELECT profile_stream.create_stream('s', topic => 'events', $case->[0])", qr/$case->[1]/, $case->[0]);
}

# a topic that is not there
$node->create_stream('crm', $broker, 'events', changelog_topic => "'profile-updates'");
$broker->produce_file('events', $events->{files}[0]);
ok($node->wait_taken('crm', 2_500), 'no topic: the stream goes on');
ok(wait_sink("state = 'retrying' AND error ~ 'UNKNOWN_TOPIC' AND hint ~ 'Create the topic'"), 'no topic: the sink says so');
is($node->stream_state('crm'), 'running', 'no topic: the stream is running');
$broker->create_topic('profile-updates', 4);
$topic->equals_profiles($node, 'crm', $begin, 'the topic is there');
is(sink("state || coalesce(error, '')"), 'running', 'the sink is running');

# a message: its partition is the one that Kafka's own clients choose, its event types are of all since the last one
my %hash = (21 => -973932308, foobar => -790332482, 'a-little-bit-long-string' => -985981536, abc => 479470107);
foreach my $customer (sort keys %hash)
{
	is(apply($customer, 'seen'), 'applied', "$customer: applied");
}
ok(wait_sink('backlog = 0'), 'delivered');
my %found = map { $_->[2] => $_ } $topic->messages;
foreach my $customer (sort keys %hash)
{
	is($found{$customer}[0], ($hash{$customer} & 0x7fffffff) % 4, "$customer: in its partition");
	like($found{$customer}[3], qr/^\{"customerId" : "$customer", "version" : 1, "updatedAt" : "2026-01-01T00:00:00.000Z", "eventTypes" : \["seen"\], "lastEvent" : \{"eventId":"e\d+","timestamp":"2026-01-01T00:00:00.000Z","source":null\}, "segmentChanges" : \[\], "profile" : \{.*"customerId": "$customer".*\}\}$/,
		"$customer: with its value");
	is($found{$customer}[4], 'profile-version=1', "$customer: and header");
}
$node->set_failpoint('relay_before_send:sleep=3000');
apply('other', 'seen');
ok(wait_sink('backlog = 1'), 'the relay waits');
apply('abc', $_) foreach ('b\\"\\\\', 'a', 'a', 'c');
$node->set_failpoint('');
ok(wait_sink('backlog = 0'), 'delivered');
my ($last) = reverse grep { $_->[2] eq 'abc' } $topic->messages;
like($last->[3], qr/"version" : 5, .*"eventTypes" : \["a","b\\"\\\\","c"\], "lastEvent" : \{"eventId":"e$n",/, 'types of several events in one message, and the last event');

# Kafka answers a commit before it marks the messages as committed, which it does through its own network: who reads, waits
$broker->proxy->tell('delay', 1);
apply('marked', 'seen');
ok(wait_sink('backlog = 0'), 'markers are late: delivered');
is(scalar(grep { $_->[2] eq 'marked' } $topic->messages), 1, 'markers are late: a reader waits for them');
$broker->proxy->tell('pass');

# a customer that changes again while its message is on its way to a broker that is frozen
$broker->freeze;
apply('twice', 'first');
ok(wait_sink("state = 'retrying' AND backlog = 1 AND hint IS NOT NULL"), 'frozen: the sink says so');
apply('twice', 'second');
ok($node->poll_query_until('postgres', 'SELECT count(*) = 0 FROM profile_stream_internal.outbox'), 'frozen: what changed is pending');
ok($node->wait_idle, 'frozen: the relay keeps no transaction while it waits');
$broker->thaw;
ok(wait_sink("backlog = 0 AND state = 'running' AND error IS NULL"), 'thawed: delivered');
($last) = reverse grep { $_->[2] eq 'twice' } $topic->messages;
like($last->[3], qr/"version" : 2, .*"eventTypes" : \["first","second"\], "lastEvent" : \{"eventId":"e$n",/, 'thawed: as it is now');

# an erasure
$node->safe_psql('postgres', "DELETE FROM profile_stream.materialized_profiles WHERE customer_id = 'abc'; DELETE FROM profile_stream_internal.event_id_chunks WHERE customer_id = 'abc';"
	  . " INSERT INTO profile_stream_internal.outbox (stream_id, sink, customer_ids, customers) SELECT stream_id, 'changelog', '{abc}', 1 FROM profile_stream.streams");
ok(wait_sink('backlog = 0'), 'an erasure is delivered');
($last) = reverse grep { $_->[2] eq 'abc' } $topic->messages;
is($last->[3], '-', 'as a tombstone');
$topic->equals_profiles($node, 'crm', $begin, 'with a tombstone');

# the topic takes little: batches become smaller, one profile is refused, the others are not held up
$broker->set_settings('profile-updates', 'max.message.bytes' => 3_000);
apply('large', 'customer.profile.updated', '"firstName": "' . 'x' x 5_000 . '"');
$broker->produce_file('events', $events->{files}[1]);
ok($node->wait_taken('crm', 5_000), 'too large: the stream goes on');
ok(wait_sink("backlog = 0 AND refused = 1 AND state = 'running'"), 'too large: refused and counted');
is(scalar(grep { $_->[2] eq 'large' } $topic->messages), 0, 'too large: not delivered');
my $failures = () = slurp_file($node->logfile) =~ /cannot deliver.*OUT_OF_ORDER_SEQUENCE/g;
cmp_ok($failures, '<', 10, 'too large: what follows a batch that was split is no failure');    # but for what takes long
$broker->set_settings('profile-updates', 'max.message.bytes' => 1_000_000);
$node->safe_psql('postgres', "SELECT profile_stream.resync_sink('crm', 'changelog')");
$topic->equals_profiles($node, 'crm', $begin, 'refilled');
is(scalar(grep { $_->[2] eq 'large' } $topic->messages), 1, 'and large is there');

# the server killed at each step of the relay
foreach my $step ('relay_before_send', 'relay_before_commit', 'relay_after_send', 'relay_after_delete')
{
	my $from = -s $node->logfile;
	$node->set_failpoint("$step:kill");
	$node->psql('postgres', "SELECT profile_stream.resync_sink('crm', 'changelog')");
	ok($node->wait_for_log(qr/was terminated by signal 9/, $from), "$step: killed");
	$node->set_failpoint('');
	$node->wait_alive;
	$topic->equals_profiles($node, 'crm', $begin, $step);
}
$node->{expected_signals} = () = slurp_file($node->logfile) =~ /\(PID \d+\) was terminated by signal 9/g;

# another topic, through a server's options, which a producer has too; then none
$broker->create_topic('other', 2);
$node->safe_psql('postgres', <<"END");
CREATE SERVER bank FOREIGN DATA WRAPPER profile_stream_kafka OPTIONS (bootstrap_servers '@{[ $broker->bootstrap ]}', "fetch.wait.max.ms" '100', "compression.codec" 'gzip');
SELECT profile_stream.alter_stream('crm', server => 'bank', changelog_topic => 'other');
SELECT profile_stream.resync_sink('crm', 'changelog');
END
ProfileStream::Topic->new($broker, 'other')->equals_profiles($node, 'crm', $begin, 'another topic');
$node->safe_psql('postgres', "SELECT profile_stream.alter_stream('crm', changelog_topic => '')");
ok($node->poll_query_until('postgres', "SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'profile_stream relay'"), 'switched off: the relay ends');
apply('late', 'seen');
is($node->safe_psql('postgres', 'SELECT (SELECT count(*) FROM profile_stream_internal.outbox), (SELECT count(*) FROM profile_stream_internal.sink_pending), (SELECT count(*) FROM profile_stream.stat_sinks)'), '0|0|0', 'switched off: nothing is kept');
$node->is_clean('end');
$node->stop('fast');
$broker->stop;
done_testing();

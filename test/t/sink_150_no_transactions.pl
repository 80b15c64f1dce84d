# A Kafka that has no transactions: the relays say what to do, and with the option transactions => false they deliver
# everything at least once, each message with its version, also when they are killed at each step, when a message is too
# large, and when the broker is gone for a while.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use JSON::PP;
use PostgreSQL::Test::Utils;
use ProfileStream::Broker;
use ProfileStream::Node qw(event events);
use ProfileStream::Topic;
use Test::More;

plan skip_all => 'needs a Kafka (KAFKA_HOME)' unless ProfileStream::Broker::available();

# the topic of transactions wants more brokers than there are
my $broker = ProfileStream::Broker->new(
	topics => [ [ 'events', 2 ], [ 'changes', 2 ], [ 'dead', 1 ] ],
	settings => { 'transaction.state.log.replication.factor' => 3, 'transaction.state.log.min.isr' => 2, 'message.max.bytes' => 16000 });
my $node = ProfileStream::Node->start_new('main');
my %topic = map { $_ => ProfileStream::Topic->new($broker, $_) } 'changes', 'dead';
my $number = 0;
my $taken = 0;

sub produce
{
	my (@rows) = @_;
	$broker->produce('events', @rows);
	return $node->wait_taken('crm', $taken += @rows);
}

sub delivered
{
	my ($name) = @_;
	ok($node->wait_sink('crm', "backlog = 0 AND state IN ('idle', 'running')", $_), "$name: $_ is delivered") foreach 'changelog', 'dead_letters';
}

$node->create_stream('crm', $broker, 'events', changelog_topic => "'changes'", dead_letter_topic => "'dead'", dead_letter_pause_ratio => 1);
ok(produce(events(\$number, 200, customers => 20, partitions => 2)), 'events are applied');
ok($node->poll_query_until('postgres', "SELECT count(*) = 2 FROM profile_stream.stat_sinks WHERE state = 'retrying' AND hint ~ 'option transactions to false'"), 'the relays say what to do')
  or diag($node->sql('SELECT sink, state, error, hint FROM profile_stream.stat_sinks'));

$node->fails_like("SELECT profile_stream.alter_stream('crm', options => '{\"transactions\": \"perhaps\"}')", qr/invalid value for option "transactions".*true or false/s, 'a word that is neither');
my $from = $node->sql('SELECT now()');
$node->sql("SELECT profile_stream.alter_stream('crm', options => '{\"transactions\": \"false\"}')");
$topic{changes}->equals_profiles($node, 'crm', $from, 'without transactions');
is(scalar(() = $topic{dead}->messages), 0, 'there are no dead letters');

# killed at each step, with messages on their way
foreach my $step ('relay_before_send', 'relay_before_commit', 'relay_after_send')
{
	my $before = -s $node->logfile;
	$node->set_failpoint("$step:kill");
	$node->psql('postgres', "SELECT profile_stream.apply_events(array_agg(jsonb_build_object('eventId', '$step' || n, 'customerId', 'killed' || n % 20, 'eventType', 'seen', 'timestamp', '2026-01-01T00:00:00Z'))) FROM generate_series(1, 100) n");
	ok($node->wait_for_log(qr/was terminated by signal 9/, $before), "$step: a relay is killed");
	$node->set_failpoint('');
	$node->wait_alive;
	ok(produce([ 0, 'k', "no JSON $step" ]), "$step: a message that is no event");
	delivered($step);
	$topic{changes}->equals_profiles($node, 'crm', $from, $step);
}
$node->{expected_signals} = () = slurp_file($node->logfile) =~ /\(PID \d+\) was terminated by signal 9/g;
my %letters = map { $_->[4] =~ /dead_letter_id=(\d+)/ => 1 } $topic{dead}->messages;
is(scalar(keys %letters), 3, 'each dead letter is there');

# a message that is too large is passed over, the others of its batch are not
$node->sql("SELECT profile_stream.map_attribute('large', 'text', '\$.text')");
$node->sql(q(SELECT profile_stream.apply_events(array_agg(jsonb_build_object('eventId', 'large' || n, 'customerId', 'large' || n, 'eventType', 'large', 'timestamp', '2026-01-01T00:00:00Z',
	'payload', jsonb_build_object('text', repeat('x', 16000 * (n % 2)))) ORDER BY n)) FROM generate_series(1, 10) n));
delivered('too large');
my %large = map { $_->[2] => 1 } grep { $_->[2] =~ /^large/ } $topic{changes}->messages;
is(join(' ', sort keys %large), 'large10 large2 large4 large6 large8', 'those that are too large are passed over, and no others');
is($node->sql("SELECT refused FROM profile_stream.stat_sinks WHERE sink = 'changelog'"), '5', 'and counted');
$node->sql("SELECT profile_stream.forget_customer('large' || n) FROM generate_series(1, 9, 2) n");

# the broker is gone for a while
$broker->stop;
$node->sql(q(SELECT profile_stream.apply_event('{"eventId": "gone", "customerId": "gone", "eventType": "seen", "timestamp": "2026-01-01T00:00:00Z"}')));
ok($node->wait_sink('crm', "state = 'retrying'", 'changelog'), 'the relay says that the broker is gone');
$broker->start;
delivered('the broker is back');
$topic{changes}->equals_profiles($node, 'crm', $from, 'the broker was gone');

# brokers that allow no transaction as long as the relay's
$node->sql("SELECT profile_stream.drop_stream('crm')");
$broker->stop;
my $short = ProfileStream::Broker->new(topics => [ [ 'events', 1 ], [ 'changes', 1 ] ], settings => { 'transaction.max.timeout.ms' => 10_000 });
$node->create_stream('short', $short, 'events', changelog_topic => "'changes'");
$short->produce('events', events(\$number, 1));
ok($node->wait_sink('short', "state = 'retrying' AND hint ~ 'transaction.max.timeout.ms.*option transactions to false'"), 'transactions that are too long: the relay says what to do');
$node->sql("SELECT profile_stream.alter_stream('short', options => '{\"transactions\": \"false\"}')");
ok($node->wait_sink('short', "state = 'running' AND delivered = 1"), 'and without them it delivers');
$short->stop;

$node->is_clean('end');
$node->stop('fast');
$broker->stop;
done_testing();

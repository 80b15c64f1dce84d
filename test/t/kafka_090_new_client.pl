# A client of Kafka hears nothing for long: the network holds everything back, or a call of librdkafka never ends. Then its
# process ends, and the next one makes a new client. A stream and a relay say all the while what is wrong, and since when;
# no event is lost or applied twice, and nothing takes it for a process that crashes again and again.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Utils;
use ProfileStream::Broker;
use ProfileStream::Node qw(event events);
use ProfileStream::Topic;
use Test::More;

plan skip_all => 'needs a Kafka (KAFKA_HOME)' unless ProfileStream::Broker::available();

my $broker = ProfileStream::Broker->new(topics => [ [ 'events', 2 ], [ 'changes', 2 ] ], proxied => 1);
my $proxy = $broker->proxy;
my $topic = ProfileStream::Topic->new($broker, 'changes');
my $node = ProfileStream::Node->start_new('main');
my $number = 0;
my $restarts = qr/stream "crm" restarts, because no broker has answered for \d+ seconds/;

sub produce { $broker->produce('events', events(\$number, 200, customers => 20, partitions => 2)); }

# One value of the stream or of its relay.
sub stream { return $node->sql("SELECT $_[0] FROM profile_stream.stat_streams"); }
sub relay { return $node->sql("SELECT $_[0] FROM profile_stream.stat_sinks"); }

my $begin = $node->sql('SELECT now()');
# who asks every second finds half a minute long
$node->sql("SELECT profile_stream.create_stream('crm', bootstrap_servers => '" . $proxy->bootstrap
	  . q[', topic => 'events', changelog_topic => 'changes', options => '{"topic.metadata.refresh.interval.ms": 1000}')]);
produce();
ok($node->wait_taken('crm', $number), 'the stream runs');
$topic->equals_profiles($node, 'crm', $begin, 'at first');

# connections stay open, new ones are taken, and nothing comes back
my $from = -s $node->logfile;
my ($worker, $relay) = ($node->stream_pid('crm'), relay('relay_pid'));
$proxy->tell('hold');
produce();
my $other = event('other', 'other');
$node->sql("SELECT profile_stream.apply_event('$other')");
ok($node->wait_state('crm', 'retrying'), 'held: the stream says so');
ok($node->wait_sink('crm', "state = 'retrying'"), 'held: so does the relay');
my $since = stream('since');
ok($node->wait_for_log($restarts, $from), 'held: the worker ends');
ok($node->poll_query_until('postgres', "SELECT worker_pid <> $worker FROM profile_stream.stat_streams"), 'held: another one has a new client');
ok($node->poll_query_until('postgres', "SELECT relay_pid <> $relay FROM profile_stream.stat_sinks"), 'held: and so has another relay');
is(stream('state'), 'retrying', 'held: the state stays');
is(stream('since'), $since, 'held: and since when');
like(stream('error'), qr/Timed out|timed out|brokers are down|could not reach/, 'held: with a reason');
like(relay('error'), qr/no answer from Kafka for \d+ s/, 'held: the relay has one, too');
like(relay('hint'), qr/brokers' addresses/, 'held: with a hint');
is(stream('restarts') . ' ' . relay('restarts'), '1 1', 'held: each has ended once');
is($node->sql("SELECT count(*) FROM profile_stream.health() WHERE problem ~ 'restarts'"), 0, 'held: which is no crash again and again');

$proxy->tell('pass');
ok($node->wait_taken('crm', $number), 'passed: the stream goes on');
$topic->equals_profiles($node, 'crm', $begin, 'passed');
is($node->sql('SELECT sum(version) FROM profile_stream.materialized_profiles'), $number + 1, 'passed: each event once');
$node->is_balanced('crm', 'passed');

# a call that never ends
$from = -s $node->logfile;
$worker = $node->stream_pid('crm');
$node->set_failpoint('lookup:hang');
ok($node->wait_for_log(qr/a failpoint hangs/, $from), 'hung: a call of librdkafka does not end');
$node->set_failpoint('');
ok($node->wait_for_log($restarts, $from), 'hung: the worker ends');
produce();
ok($node->wait_taken('crm', $number), 'hung: another one goes on');
ok($node->wait_state('crm', 'running'), 'hung: and is well');
isnt($node->stream_pid('crm'), $worker, 'hung: it is another one');
is($node->sql("SELECT reason FROM profile_stream.stream_log WHERE what = 'stream' AND to_state = 'retrying' ORDER BY log_id DESC LIMIT 1"), 'no broker answers', 'hung: stream_log has the reason');
is(stream('restarts'), 2, 'hung: the worker has ended twice');
is($node->sql('SELECT sum(version) FROM profile_stream.materialized_profiles'), $number + 1, 'hung: each event once');

$node->is_clean('end');
$node->stop('fast');
$broker->stop;
done_testing();

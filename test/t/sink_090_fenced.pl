# A standby is promoted while its primary, cut off, goes on. The primary's relay has written messages without committing
# them when the new primary's relay begins. They are never committed, the old relay says so, and the topic is what the new
# primary says. The same holds for a relay that is stopped, and killed after its successor has begun.

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

my $broker = ProfileStream::Broker->new(topics => [ [ 'events', 1 ], [ 'changelog', 2 ] ]);
my $topic = ProfileStream::Topic->new($broker, 'changelog');
my $conf = "max_wal_senders = 4\nwal_level = replica\nwal_keep_size = 512MB\n";
my $primary = ProfileStream::Node->start_new('primary', init => { allows_streaming => 1 }, conf => $conf);
my $n = 0;

# Produces an event for each of some customers.
sub produce
{
	my @rows = map { $n++; [ 0, "c$_", sprintf('{"eventId":"e%d","customerId":"c%d","eventType":"seen","timestamp":"2026-01-01T00:00:00Z"}', $n, $_) ] } 1 .. 20;
	$broker->produce('events', @rows);
	return $n;
}

my $begin = $primary->safe_psql('postgres', 'SELECT now()');
$primary->create_stream('crm', $broker, 'events', changelog_topic => "'changelog'");
ok($primary->wait_taken('crm', produce()), 'the stream runs');
$topic->equals_profiles($primary, 'crm', $begin, 'at first');
$primary->backup('b');
my $standby = ProfileStream::Node->new('standby');
$standby->{expected_signals} = 0;
$standby->init_from_backup($primary, 'b', has_streaming => 1);
$standby->start;
$primary->wait_for_catchup($standby, 'replay');

# cut off, the primary's relay stops between writing and committing
$standby->append_conf('postgresql.conf', "primary_conninfo = ''");
$standby->reload;
ok($primary->poll_query_until('postgres', 'SELECT count(*) = 0 FROM pg_stat_replication'), 'the standby is cut off');
$primary->set_failpoint('relay_before_commit:sleep=15000');
ok($primary->wait_taken('crm', produce()), 'the primary goes on');
my $written;
for (1 .. 60)
{
	last if ($written = () = $topic->messages(uncommitted => 1)) >= 40;
	$primary->safe_psql('postgres', 'SELECT pg_sleep(0.1)');
}
is($written, 40, 'its relay has written');
my $committed = () = $topic->messages(leave_open => 1);
is($committed, 20, 'and not committed');
$standby->promote;
$primary->set_failpoint('');
ok($standby->wait_taken('crm', $n), 'the new primary reads on');
$topic->equals_profiles($standby, 'crm', $begin, 'the new primary has delivered');
$committed = () = $topic->messages;
is($committed, 40, 'once');
ok($primary->wait_sink('crm', "state = 'retrying' AND error ~ 'FENCED|PRODUCER_EPOCH' AND hint ~ 'old primary.*copy of this server'"), 'the old one says that it is fenced');
$primary->stop('immediate');
ok($standby->wait_taken('crm', produce()), 'the old one stopped: the new one reads on');
$topic->equals_profiles($standby, 'crm', $begin, 'and delivers');

# a relay that is stopped, with a transaction that is open
$standby->set_failpoint('relay_before_commit:sleep=60000');
ok($standby->wait_taken('crm', produce()), 'stopped: the stream goes on');
ok($standby->poll_query_until('postgres', "SELECT wait_event = 'Extension' FROM pg_stat_activity WHERE backend_type = 'profile_stream relay'"), 'a relay sleeps before it commits');
my $pid = $standby->safe_psql('postgres', 'SELECT relay_pid FROM profile_stream.stat_sinks');
$standby->set_failpoint('');
$standby->kill_process($pid);
$topic->equals_profiles($standby, 'crm', $begin, 'killed, another one has delivered');

# a call of librdkafka that does not end, in a thread that nobody can end
$standby->set_failpoint('relay_call:hang');
ok($standby->wait_taken('crm', produce()), 'hung: the stream goes on');
ok($standby->wait_sink('crm', "state = 'retrying' AND error ~ 'does not end'"), 'hung: the relay says so');
$pid = $standby->safe_psql('postgres', 'SELECT relay_pid FROM profile_stream.stat_sinks');
$standby->set_failpoint('');
$topic->equals_profiles($standby, 'crm', $begin, 'hung: another process has delivered');
isnt($standby->safe_psql('postgres', 'SELECT relay_pid FROM profile_stream.stat_sinks'), $pid, 'hung: it is another one');
$standby->is_clean('end');
$standby->stop('fast');
$broker->stop;
done_testing();

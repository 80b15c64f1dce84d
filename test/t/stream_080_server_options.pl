# A running worker takes over changed options of its foreign server. A second worker of the same stream leaves.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use ProfileStream::Broker;
use ProfileStream::Node;
use Test::More;

my $broker = ProfileStream::Broker->new(mock => 1, topics => [ [ 'events', 2 ] ]);
my $node = ProfileStream::Node->start_new('main');
my $event = '{"eventId":"%s","customerId":"c","eventType":"seen","timestamp":"2026-01-01T00:00:00Z"}';
my $nowhere = PostgreSQL::Test::Cluster::get_free_port();

# the server of a stream is wrong, and put right while the worker runs
$broker->produce('events', map { [ $_ % 2, 'c', sprintf($event, $_) ] } 1 .. 10);
$node->safe_psql('postgres', <<"END");
CREATE SERVER bank FOREIGN DATA WRAPPER profile_stream_kafka OPTIONS (bootstrap_servers '127.0.0.1:$nowhere');
SELECT profile_stream.create_stream('crm', server => 'bank', topic => 'events');
END
ok($node->wait_state('crm', 'retrying'), 'a wrong address is shown');
$node->safe_psql('postgres', "ALTER SERVER bank OPTIONS (SET bootstrap_servers '" . $broker->bootstrap . "')");
ok($node->wait_taken('crm', 10), 'the address put right, the stream goes on by itself');
my $pid = $node->stream_pid('crm');
$node->safe_psql('postgres', 'ALTER SERVER bank OPTIONS (ADD "client.id" \'teller\')');
ok($node->wait_stream_pid('crm', $pid), 'the worker makes another client for other options');
ok($node->wait_state('crm', 'running'), 'and runs');
$pid = $node->stream_pid('crm');
$node->safe_psql('postgres', 'CREATE SERVER other FOREIGN DATA WRAPPER profile_stream_kafka OPTIONS (bootstrap_servers \'nowhere:9092\')');
$broker->produce('events', map { [ $_ % 2, 'c', sprintf($event, $_) ] } 11 .. 20);
ok($node->wait_taken('crm', 20), 'after another server was created the stream goes on');
is($node->stream_pid('crm'), $pid, 'with the same worker');

# a server that is dropped under the stream
$node->safe_psql('postgres', 'DROP SERVER bank');
ok($node->wait_state('crm', 'retrying'), 'a dropped server stops the stream');
is($node->safe_psql('postgres', "SELECT error FROM profile_stream.stat_streams"), 'server "bank" does not exist', 'that says why');
$node->safe_psql('postgres',
	"CREATE SERVER bank FOREIGN DATA WRAPPER profile_stream_kafka OPTIONS (bootstrap_servers '" . $broker->bootstrap . "')");
$broker->produce('events', map { [ $_ % 2, 'c', sprintf($event, $_) ] } 21 .. 30);
ok($node->wait_taken('crm', 30), 'and goes on when the server is there again');

# a server that is renamed under the stream
$node->safe_psql('postgres', 'ALTER SERVER bank RENAME TO house');
ok($node->wait_state('crm', 'retrying'), 'a renamed server stops the stream');
like($node->safe_psql('postgres', 'SELECT hint FROM profile_stream.stat_streams'), qr/If it was renamed, alter_stream\(\) gives the stream its new name/, 'that says what to do');
$node->safe_psql('postgres', "SELECT profile_stream.alter_stream('crm', server => 'house')");
ok($node->wait_state('crm', 'running'), 'and runs with the new name');

# a second worker of a stream gives its slot back
$node->safe_psql('postgres', "SELECT profile_stream.pause_stream('crm')");
ok($node->wait_worker(0), 'paused');
$node->safe_psql('postgres', "SELECT profile_stream.resume_stream('crm'), profile_stream.resume_stream('crm')");
ok($node->wait_worker(2), 'resumed twice at once, two workers start');
ok($node->wait_worker(1), 'one leaves');
$broker->produce('events', map { [ $_ % 2, 'c', sprintf($event, $_) ] } 31 .. 40);
ok($node->wait_taken('crm', 40), 'the other goes on');

$node->is_clean('end');
$node->stop('fast');
done_testing();

# A copy of a server is started beside it. The copy does not read, write or fence what belongs to the original until an
# operator says that the streams are its own. A member of the same cluster goes on after a promotion. A restore that
# failed half-way is noticed before a stream goes on.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Utils;
use ProfileStream::Broker;
use ProfileStream::Node;
use Test::More;

plan skip_all => 'needs a Kafka (KAFKA_HOME)' unless ProfileStream::Broker::available();

my $broker = ProfileStream::Broker->new(topics => [ [ 'events', 2 ], [ 'changelog', 1 ] ]);
my $origin = ProfileStream::Node->start_new('origin', init => { allows_streaming => 1 }, conf => "profile_stream.cluster = 'bank'");
my $n = 0;

sub produce
{
	$broker->produce('events', map { $n++; [ $n % 2, "c$n", qq({"eventId":"e$n","customerId":"c$n","eventType":"seen","timestamp":"2026-01-01T00:00:00Z"}) ] } 1 .. 10);
	return $n;
}

# A server made of the backup, with another setting of the cluster.
sub copy
{
	my ($name, $cluster, %options) = @_;
	my $copy = ProfileStream::Node->new($name);

	$copy->{expected_signals} = 0;
	$copy->init_from_backup($origin, 'b', %options);
	$copy->append_conf('postgresql.conf', "profile_stream.cluster = '$cluster'");
	$copy->start;
	return $copy;
}

$origin->create_stream('crm', $broker, 'events', changelog_topic => "'changelog'");
ok($origin->wait_taken('crm', produce()), 'the stream runs');
ok($origin->wait_sink('crm', 'delivered = 10 AND backlog = 0'), 'and delivers');
$origin->backup('b');

# a copy of another name
my $copy = copy('copy', 'staging');
ok($copy->wait_state('crm', 'foreign_cluster'), 'a copy: its stream is another cluster\'s');
ok($copy->wait_for_log(qr/LOG: .*stream "crm" is foreign_cluster: the stream belongs to cluster "bank", and this server is of cluster "staging"/), 'the log says so');
ok($origin->wait_taken('crm', produce()), 'the origin goes on');
ok($origin->wait_sink('crm', "state = 'running' AND delivered = 20 AND backlog = 0 AND error IS NULL", 'changelog'), 'its relay is not fenced');
$copy->safe_psql('postgres', 'SELECT profile_stream.start_streams()');
$copy->reload;
is($copy->safe_psql('postgres', 'SELECT count(*) FROM profile_stream.materialized_profiles'), 10, 'the copy stays as it was');
is($copy->safe_psql('postgres', 'SELECT state, relay_pid IS NULL FROM profile_stream.stat_sinks'), 'foreign_cluster|t', 'and has no relay');
is($copy->safe_psql('postgres', "SELECT count(*) FROM pg_stat_activity WHERE backend_type IN ('profile_stream worker', 'profile_stream relay')"), 0, 'and no worker');
my $lines = () = slurp_file($copy->logfile) =~ /LOG: .*is foreign_cluster/g;
is($lines, 1, 'one line of the log, however often it is asked');

# a member of the cluster, whose cluster_name is another one, is promoted
my $standby = copy('standby', 'bank', has_streaming => 1);
$origin->wait_for_catchup($standby, 'replay');
$origin->stop('fast');
$standby->promote;
ok($standby->wait_taken('crm', produce()), 'a member of the cluster goes on after its promotion');
ok($standby->wait_sink('crm', "state = 'running' AND backlog = 0", 'changelog'), 'with its relay');

# a reload that gives the cluster another name, and its own again
my $pid = $standby->stream_pid('crm');
$standby->append_conf('postgresql.conf', "profile_stream.cluster = 'other'");
$standby->reload;
ok($standby->wait_stopped('crm'), 'another name: the worker ends');
is($standby->stream_state('crm'), 'foreign_cluster', 'and says why');
$standby->append_conf('postgresql.conf', "profile_stream.cluster = 'bank'");
$standby->reload;
ok($standby->wait_state('crm', 'running'), 'its own name: it runs');
$standby->stop('fast');

# nobody else runs it any more: the copy takes it over
$copy->safe_psql('postgres', "SELECT profile_stream.resume_stream('crm')");
ok($copy->wait_taken('crm', $n), 'resumed: the copy reads on from where it was');
ok($copy->wait_sink('crm', "state = 'running' AND backlog = 0", 'changelog'), 'and delivers');
$copy->restart;
ok($copy->wait_state('crm', 'running'), 'and it is its own after a restart');

# a dump of tables with a column of one's own: the tables that the restore makes do not have it
$copy->safe_psql('postgres', 'ALTER TABLE profile_stream.materialized_profiles ADD COLUMN mine int');
$copy->safe_psql('postgres', "SELECT profile_stream.pause_stream('crm')");
ok($copy->wait_stopped('crm'), 'paused');
my $dump = PostgreSQL::Test::Utils::tempdir('dump') . '/dump';
$copy->command_ok([ 'pg_dump', '-Fc', '-f', $dump, '-h', $copy->host, '-p', $copy->port, 'postgres' ], 'a dump');
$copy->safe_psql('postgres', 'CREATE DATABASE restored');
$copy->command_fails([ 'pg_restore', '-h', $copy->host, '-p', $copy->port, '-d', 'restored', $dump ], 'a restore that fails half-way');
is($copy->safe_psql('restored', 'SELECT (SELECT count(*) FROM profile_stream.materialized_profiles), (SELECT sum(applied) FROM profile_stream_internal.stream_offsets)'),
	"0|$n", 'has offsets and no profiles');
my ($rc, $out, $err) = $copy->psql('restored', "SELECT profile_stream.resume_stream('crm')");
isnt($rc, 0, 'resume_stream() refuses');
like($err, qr/was not restored with its offsets.*$n events were applied, and table materialized_profiles is empty/s, 'and says what is missing');
is($copy->safe_psql('restored', 'SELECT state FROM profile_stream.stat_streams'), 'restored', 'it stays where it was');

$copy->is_clean('end');
$copy->stop('fast');
$broker->stop;
done_testing();

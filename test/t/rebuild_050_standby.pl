# A rebuild cannot run on a server without a free worker slot, nor on a standby until it is promoted. There the views say
# that the primary runs the stream, and health() finds no fault.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Utils;
use ProfileStream::Broker;
use ProfileStream::Node;
use Test::More;

my $broker = ProfileStream::Broker->new(
	mock => !ProfileStream::Broker::available(),
	topics => [ [ 'events', 2 ] ]);
my $node = ProfileStream::Node->start_new('main',
	init => { allows_streaming => 1 },
	conf => 'max_worker_processes = 3');
my $event = '{"eventId":"%s","customerId":"c%d","eventType":"seen","timestamp":"2026-01-01T00:00:00Z"}';
my $profiles = 'profile_stream.materialized_profiles';
my $rebuilds = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'profile_stream rebuild'";

# one slot is the launcher's, one that of logical replication, one the stream's
$broker->produce('events', map { [ $_ % 2, 'c', sprintf($event, $_, $_ % 2) ] } 1 .. 100);
$node->create_stream('crm', $broker, 'events', redis => "'127.0.0.1:1'");
ok($node->wait_taken('crm', 100), 'the stream runs');
$node->fails_like("SELECT profile_stream.rebuild('crm')", qr/no background worker slot is free for the rebuild.*max_worker_processes/s,
	'without a slot');
is($node->safe_psql('postgres', 'SELECT count(*) FROM profile_stream.stat_rebuilds'), '0', 'and nothing is begun');
$node->append_conf('postgresql.conf', 'max_worker_processes = 16');
$node->restart;

# a standby has what the rebuild has done, and runs none
$node->backup('b');
my $standby = ProfileStream::Node->new('standby');
$standby->init_from_backup($node, 'b', has_streaming => 1);
# its primary has it off
$standby->append_conf('postgresql.conf', 'track_commit_timestamp = on');
$standby->start;
$standby->{expected_signals} = 0;

# what the primary runs, the standby does not take for interrupted
$node->safe_psql('postgres', "CALL profile_stream.backfill('crm', 'SELECT ''e'' AS event_id, ''c'' AS customer_id, ''seen'' AS event_type, now() AS event_time WHERE false')");
$node->safe_psql('postgres', 'CALL profile_stream.refresh_scores()');
my $states = 'SELECT b.state, r.state FROM profile_stream.stat_backfills b, profile_stream.stat_score_refresh r';
$node->safe_psql('postgres', "UPDATE profile_stream_internal.$_ SET state = 'running'") foreach qw(backfills score_refresh);
$node->wait_for_catchup($standby, 'replay');
is($node->safe_psql('postgres', $states), 'interrupted|interrupted', 'without a process they are interrupted here');
is($standby->safe_psql('postgres', $states), 'running|running', 'on a standby nobody can tell');
$node->safe_psql('postgres', "UPDATE profile_stream_internal.$_ SET state = 'done'") foreach qw(backfills score_refresh);

$node->safe_psql('postgres', "UPDATE $profiles SET version = 77 WHERE customer_id = 'c1'; SELECT profile_stream.rebuild('crm')");
ok($node->wait_rebuild('ready'), 'a rebuild is ready');
ok($standby->poll_query_until('postgres', "SELECT state = 'ready' FROM profile_stream_rebuild.stream_status"), 'the standby has it');
is($standby->safe_psql('postgres', $rebuilds), '0', 'nothing runs on a standby');
is($standby->safe_psql('postgres', "SELECT s.state, s.hint, k.state, r.state FROM profile_stream.stat_streams s, profile_stream.stat_sinks k, profile_stream.stat_rebuilds r"),
	'standby|Its primary runs it. Once this server is promoted, it goes on here by itself.|standby|standby', 'which the views say');
is($standby->safe_psql('postgres', "SELECT status, subject FROM profile_stream.health() WHERE status = 'error'"), '', 'and it is no fault');
is($standby->safe_psql('postgres', "SELECT customer_id, fields FROM profile_stream.rebuild_diff('crm')"), 'c1|{"version": [77, 50]}',
	'the difference can be read there');
is($standby->safe_psql('postgres', "SELECT version FROM profile_stream.profiles WHERE customer_id = 'c1' AND changed_at IS NULL"), '77', 'and so can the profiles');
$standby->fails_like("SELECT profile_stream.$_('crm')", qr/$_\(\) (during recovery|in a read-only transaction)/, "$_() on a standby")
  foreach qw(rebuild swap_rebuild);

# promoted, it goes on by itself
$node->stop('immediate');
$standby->promote;
$broker->produce('events', map { [ $_ % 2, 'c', sprintf($event, $_, $_ % 2) ] } 101 .. 120);
ok($standby->wait_taken('crm', 120), 'a promoted standby goes on with the stream');
ok($standby->wait_rebuild('ready'), 'and with the rebuild');
is($standby->safe_psql('postgres', "SELECT profile_stream.swap_rebuild('crm')"), '1', 'it swaps');
is($standby->safe_psql('postgres', "SELECT customer_id, version FROM $profiles ORDER BY 1"), "c0|60\nc1|60", 'exactly');
$standby->is_clean('end');
$standby->stop;
$broker->stop;
done_testing();

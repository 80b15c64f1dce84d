# The history of profiles equals a replay up to each moment: while the worker is killed, the server crashes and partitions
# cannot be made; after a rebuild of damaged history; on a standby; and in a database restored from a dump. Old partitions
# are dropped while the stream runs. PS_SEED repeats a run.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Utils;
use ProfileStream::Broker;
use ProfileStream::Node;
use Test::More;

plan skip_all => 'needs a Kafka (KAFKA_HOME)' unless ProfileStream::Broker::available();

my $seed = $ENV{PS_SEED} // int(rand(1_000_000));
my $rounds = 4;
my $events = ProfileStream::Node::generate(
	seed => $seed,
	events => $ENV{PS_EVENTS} // 30_000,
	customers => $ENV{PS_CUSTOMERS} // 800,
	parts => 2 * $rounds + 2);
my $broker = ProfileStream::Broker->new(topics => [ [ 'events', 4 ] ]);
my $node = ProfileStream::Node->start_new('main', init => { allows_streaming => 1 });
my @files = @{ $events->{files} };
my @sizes = map { my $lines = () = slurp_file($_) =~ /\n/g; $lines } @files;
my $history = 'profile_stream_internal.profile_history';
my $partitions = "SELECT count(*) FROM pg_inherits WHERE inhparent = '$history'::regclass";
my $content = "SELECT count(*), sum(hashtextextended(concat(customer_id, changed_at, version, kind, old - 'phone'), 0)) FROM $history WHERE old - 'phone' <> '{}'";
my $old_rows = "SELECT count(*) FROM $history WHERE changed_at < now() - interval '31 days'";	# a partition has 30 days at most
my $produced = 0;

sub produce
{
	$broker->produce_file('events', shift @files);
	$produced += shift @sizes;
}

# What all documents of a moment are.
sub documents_at
{
	my ($server, $at, $database) = @_;
	return $server->safe_psql($database // 'postgres', "SELECT count(*), sum(hashtextextended(profile::text, 0)) FROM profile_stream.profiles_at('$at')");
}

# faults
$node->sql("SELECT profile_stream.track_history('{first_name,last_name,email,total_balance,account_count,last_transaction_at,last_login_at,preferred_channel}', '3650 days')");
$node->create_stream('crm', $broker, 'events', batch_size => 100, batch_wait => "'1 ms'");
$node->set_failpoint('history_part:error') if $node->has_failpoints;
produce();
if ($node->has_failpoints)
{
	ok($node->wait_state('crm', 'retrying'), 'no partition can be made: the stream tries again');
	is($node->sql($partitions), '0', 'and there is none');
	$node->set_failpoint('');
}
ok($node->wait_taken('crm', $produced), 'the stream goes on');
foreach my $round (1 .. $rounds)
{
	my $producer = $broker->start_producing('events', shift @files);

	$produced += shift @sizes;
	ok($node->wait_stream_pid('crm'), "round $round: there is a worker");
	if ($round == 2)
	{
		$node->stop('immediate');
		$node->start;
	}
	else
	{
		$node->kill_process($node->stream_pid('crm')) or die 'could not kill the worker';
	}
	$broker->finish_producing($producer);
	$node->wait_alive;
	ok($node->wait_taken('crm', $produced), "round $round: it goes on");
	$node->sql("SELECT profile_stream.track_history('{phone}', '3650 days')") if $round == 2;
	produce();
}
produce() while @files;
ok($node->wait_taken('crm', $events->{events}), 'every message is taken');

# at the moments of changes, just before them, and at others
my @moments = split(/\n/, $node->sql(<<"END"));
SELECT to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
FROM (SELECT unnest(percentile_disc('{0.05,0.5,0.9}'::float8[]) WITHIN GROUP (ORDER BY changed_at)) FROM $history) m (m),
	LATERAL (VALUES (m), (m - interval '1 microsecond')) v (at) ORDER BY at DESC LIMIT 5
END
is(scalar(@moments), 5, 'there are moments');
my $at = join(',', @moments);
$node->equals_model('crm', $events, "a history with faults, seed $seed", model => [ '--history-at', $at, '--history-without', 'phone' ]);
is($node->sql("SELECT bool_and(profile -> 'currentMembers' ? 'phone') FROM profile_stream.profiles_at('$moments[-1]')"), 't',
	'what was tracked later is not told of a moment before');

# get_profiles(), get_profile() and a training set say the same
is($node->sql("SELECT count(*) > 0, count(*) FILTER (WHERE a.profile = g.profile AND a.profile = profile_stream.get_profile(a.customer_id, '$moments[1]')) = count(*)"
	  . " FROM profile_stream.profiles_at('$moments[1]') a JOIN profile_stream.get_profiles(ARRAY(SELECT customer_id FROM profile_stream.materialized_profiles), '$moments[1]') g USING (customer_id)"),
	't|t', 'documents of one, of many and of all are the same');
is($node->sql("SELECT count(*) > 0, count(*) FILTER (WHERE t.tracked ->> 'email' = p.profile ->> 'email' AND t.metric_values -> 'login_count_7d' = p.profile -> 'loginCount7d') = count(*)"
	  . " FROM profile_stream.training_set(\$\$SELECT customer_id, timestamptz '$moments[1]' FROM profile_stream.materialized_profiles\$\$) t JOIN profile_stream.profiles_at('$moments[1]') p USING (customer_id)"),
	't|t', 'and so is a training set');

# a rebuild of damaged history, whose worker is killed
my $before = $node->sql($content);
$node->sql(<<"END");
DELETE FROM $history WHERE version = 3;
UPDATE $history SET old = old || '{"email": "wrong"}' WHERE version = 5;
INSERT INTO $history SELECT customer_id, changed_at, 1000000, kind, '{"email": "ghost"}' FROM $history WHERE version = 7;
END
isnt($node->sql($content), $before, 'the history is damaged');
$node->sql("SELECT profile_stream.rebuild('crm')");
ok($node->poll_query_until('postgres', "SELECT events_done > 1000 FROM profile_stream.stat_rebuilds"), 'a rebuild has begun');
$node->kill_process($node->rebuild_pid) or die 'could not kill the rebuild';
ok($node->wait_rebuild('ready'), 'and gets ready');
$node->sql("SELECT profile_stream.swap_rebuild('crm')");
is($node->sql($content), $before, 'swapped, the history is that of before');
is($node->sql('SELECT count(*) FROM profile_stream_rebuild.profile_history'), '0', 'and nothing of the rebuild is left');
$node->equals_model('crm', $events, 'a rebuilt history', model => [ '--history-at', join(',', @moments[0 .. 2]) ]);
is($node->sql("SELECT bool_or(profile -> 'currentMembers' ? 'phone') FROM profile_stream.profiles_at('$moments[-1]')"), 'f',
	'it tells what was tracked before the rebuild of any moment');

# a standby
my $documents = documents_at($node, $moments[2]);
$node->backup('b');
my $standby = ProfileStream::Node->new('standby');
$standby->{expected_signals} = 0;
$standby->init_from_backup($node, 'b', has_streaming => 1);
$standby->start;
$node->wait_for_catchup($standby, 'replay');
is(documents_at($standby, $moments[2]), $documents, 'a standby reads the same');
is($standby->safe_psql('postgres', "SELECT count(*) > 0 FROM profile_stream.training_set(\$\$SELECT customer_id, timestamptz '$moments[2]' FROM profile_stream.materialized_profiles\$\$)"), 't', 'and training sets');
$standby->fails_like("SELECT profile_stream.track_history('{email}', '1 day')", qr/track_history\(\) (during recovery|in a read-only transaction)/, 'but tracks nothing');
$standby->stop('fast');

# a dump
my $dump = PostgreSQL::Test::Utils::tempdir('dump') . '/dump';
$node->command_ok([ 'pg_dump', '-Fc', '-f', $dump, '-h', $node->host, '-p', $node->port, 'postgres' ], 'a dump');
$node->sql('CREATE DATABASE restored');
$node->command_ok([ 'pg_restore', '-e', '-h', $node->host, '-p', $node->port, '-d', 'restored', $dump ], 'and a restore');
is(documents_at($node, $moments[2], 'restored'), $documents, 'has the same');
is($node->safe_psql('restored', $content), $before, 'in all rows');
is($node->safe_psql('restored', "SELECT profile_stream.apply_event(jsonb_build_object('eventId', 'e', 'customerId', 'new', 'eventType', 'customer.profile.updated', 'timestamp', now(), 'payload', '{\"email\": \"x\"}'::jsonb))"),
	'applied', 'the restored history goes on');
is($node->safe_psql('restored', "SELECT count(*) FROM $history WHERE customer_id = 'new'"), '1', 'with a row');
$node->safe_psql('restored', 'SELECT profile_stream.untrack_history()');
is($node->safe_psql('restored', $partitions), '0', 'and ends');
$node->safe_psql('restored', 'DROP EXTENSION profile_stream');

# retention, while somebody reads an old partition
my $reader = $node->background_psql('postgres');
$reader->query_safe("BEGIN; SELECT count(*) FROM $history");
$node->sql("SELECT profile_stream.track_history('{}', '1 day')");
$node->sql('SELECT profile_stream.prune_metrics()');
cmp_ok($node->sql($old_rows), '>', 0, 'partitions that are read stay');
$reader->query_safe('COMMIT');
$reader->quit;
$node->restart;					# the worker begins with what is old, and looks again within an hour
ok($node->poll_query_until('postgres', "SELECT ($old_rows) = 0"), 'the worker drops old partitions');
$node->sql("DROP EXTENSION profile_stream");
is($node->sql("SELECT count(*) FROM pg_class WHERE relname ~ '^profile_history'"), '0', 'DROP EXTENSION drops the partitions');

$node->is_clean('end');
$node->stop('fast');
$broker->stop;
done_testing();

# Several workers share the partitions of a topic, while workers come, go and die. Each event is applied once, and the
# events of a customer in their order. PS_SEED repeats a run.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Utils;
use ProfileStream::Broker;
use ProfileStream::Node;
use Test::More;
use Time::HiRes qw(time usleep);

plan skip_all => 'needs a Kafka (KAFKA_HOME)' unless ProfileStream::Broker::available();

my $partitions = 7;
my $rounds = 12;
my $seed = $ENV{PS_SEED} // int(rand(1_000_000));
srand($seed);
my $events = ProfileStream::Node::generate(
	seed => $seed,
	events => $ENV{PS_EVENTS} // 60_000,
	customers => $ENV{PS_CUSTOMERS} // 3_000,
	partitions => $partitions,
	parts => $rounds + 2);
my $broker = ProfileStream::Broker->new(topics => [ [ 'events', $partitions ], [ 'wide', 24 ] ]);
my $node = ProfileStream::Node->start_new('main', conf => 'max_worker_processes = 40');
my @files = @{ $events->{files} };
my @sizes = map { my $lines = () = slurp_file($_) =~ /\n/g; $lines } @files;
my $produced = 0;

# Waits until so many workers run and have as many partitions as the others, or one more.
sub shared_out
{
	my ($stream, $workers, $wide) = @_;
	my ($few, $many) = (int($wide / $workers), int(($wide + $workers - 1) / $workers));
	return $node->poll_query_until('postgres', <<"END");
WITH w AS (SELECT count(l.partition) AS n FROM profile_stream_internal.stream_leases r
	LEFT JOIN profile_stream_internal.stream_leases l ON l.stream_id = r.stream_id AND l.pid = r.pid AND l.partition IS NOT NULL
	WHERE r.worker IS NOT NULL AND r.stream_id = (SELECT stream_id FROM profile_stream.streams WHERE name = '$stream')
	GROUP BY r.pid)
SELECT count(*) = $workers AND sum(n) = $wide AND min(n) >= $few AND max(n) <= $many FROM w
END
}

sub workers { $node->safe_psql('postgres', "SELECT profile_stream.alter_stream('many', workers => $_[0])"); }

# Process id of any worker of the stream.
sub some_worker
{
	return $node->safe_psql('postgres', "SELECT pid FROM profile_stream_internal.stream_leases WHERE worker IS NOT NULL ORDER BY random() LIMIT 1");
}

$broker->produce_file('events', shift @files);
$produced += shift @sizes;
$node->create_stream('many', $broker, 'events', workers => 3);
ok(shared_out('many', 3, $partitions), 'three workers share seven partitions');
is($node->safe_psql('postgres', "SELECT workers FROM profile_stream.stat_streams"), '3', 'and the view counts them');
ok($node->wait_taken('many', $produced), 'they read everything');
my $wanted = 3;

foreach my $round (1 .. $rounds)
{
	my $fault = (qw(kill terminate more fewer pause immediate))[ ($round - 1) % 6 ];
	my $producer = $broker->start_producing('events', shift @files);
	my $pause = int(rand(400_000));

	$produced += shift @sizes;
	usleep($pause);
	note("round $round: $fault after $pause microseconds");
	if ($fault eq 'kill')
	{
		$node->kill_process(some_worker()) or die 'could not kill a worker';
	}
	elsif ($fault eq 'terminate')
	{
		$node->safe_psql('postgres', 'SELECT pg_terminate_backend(' . some_worker() . ')');
	}
	elsif ($fault eq 'more' || $fault eq 'fewer')
	{
		$wanted = $fault eq 'more' ? $wanted + 1 + int(rand 2) : 1 + int(rand $wanted);
		workers($wanted);
	}
	elsif ($fault eq 'pause')
	{
		$node->safe_psql('postgres', "SELECT profile_stream.pause_stream('many')");
		$node->safe_psql('postgres', "SELECT profile_stream.resume_stream('many')");
	}
	else
	{
		$node->stop('immediate');
		$node->start;
	}
	$broker->finish_producing($producer);
	ok($node->wait_taken('many', $produced), "round $round, $fault: everything is read");
	ok(shared_out('many', $wanted, $partitions), "round $round, $fault: $wanted workers share the partitions again");
}

# a storm of workers, added and removed without waiting for any
my $producer = $broker->start_producing('events', shift @files);
$produced += shift @sizes;
workers(1 + int(rand 8)) for 1 .. 20;
workers(2);
$broker->finish_producing($producer);
ok($node->wait_taken('many', $produced), 'a storm of workers: everything is read');
ok(shared_out('many', 2, $partitions), 'a storm of workers: two are left');
is($produced, $events->{events}, 'every event was produced');
$node->is_balanced('many', 'end') if $node->can('is_balanced');
$node->equals_model('many', $events, "$rounds faults and a storm, seed $seed");

# a part of the topic only
my $event = '{"eventId":"%s","customerId":"c%s","eventType":"seen","timestamp":"2026-01-01T00:00:00Z"}';
$broker->produce('wide', map { [ $_ % 24, "c$_", sprintf($event, $_, $_) ] } 0 .. 2_399);
$node->create_stream('part', $broker, 'wide', workers => 2, partitions => "'{3,5,23}'", group_id => "'part'");
ok($node->wait_taken('part', 300), 'three partitions of 24 are read');
ok(shared_out('part', 2, 3), 'by two workers');
is($node->safe_psql('postgres', "SELECT string_agg(partition::text, ',' ORDER BY partition) FROM profile_stream.stat_partitions WHERE stream = 'part'"),
	'3,5,23', 'and no other');
$node->safe_psql('postgres', "SELECT profile_stream.wait_for_stream('part')");
$node->safe_psql('postgres', "SELECT profile_stream.alter_stream('part', partitions => '{5,7}')");
ok($node->wait_taken('part', 400), 'another partition joins');
ok(shared_out('part', 2, 2), 'and one is given back');
$node->safe_psql('postgres', "SELECT profile_stream.drop_stream('part')");

# as many workers as partitions
$node->forget_event_ids;
$node->create_stream('wide', $broker, 'wide', workers => 24, group_id => "'wide'");
ok(shared_out('wide', 24, 24), '24 workers have a partition each');
ok($node->wait_taken('wide', 2_400), 'and read everything');
is($node->safe_psql('postgres', "SELECT sum(applied), sum(duplicates) FROM profile_stream.stat_partitions WHERE stream = 'wide'"), '2400|0',
	'once');
$node->safe_psql('postgres', "SELECT profile_stream.drop_stream('wide')");
ok($node->wait_worker(2), 'all of them leave with the stream');

# more workers than there are slots
my ($rc, $out, $err) = $node->psql('postgres', "SELECT profile_stream.alter_stream('many', workers => 64)");
is($rc, 0, 'more workers than slots: the stream is altered');
like($err, qr/no background worker slot is free.*max_worker_processes/s, 'more workers than slots: with a warning and a hint');
$node->fails_like("SELECT profile_stream.alter_stream('many', workers => 0)", qr/workers must be 1 to 64/, 'no worker');
workers(1);
ok(shared_out('many', 1, $partitions), 'one worker reads all partitions again');

$node->is_clean('end');
$node->stop('fast');
$broker->stop;
done_testing();

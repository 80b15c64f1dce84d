# Events flow while a rebuild runs and is swapped in. Its worker is killed and the server crashes. The result equals the
# model. PS_SEED repeats a run.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Utils;
use ProfileStream::Broker;
use ProfileStream::Node;
use Test::More;

plan skip_all => 'needs a Kafka (KAFKA_HOME)' unless ProfileStream::Broker::available();

my $rounds = 3;
my $seed = $ENV{PS_SEED} // int(rand(1_000_000));
my $events = ProfileStream::Node::generate(
	seed => $seed,
	events => $ENV{PS_EVENTS} // 60_000,
	customers => $ENV{PS_CUSTOMERS} // 2_000,
	parts => 1 + 5 * $rounds);
my $broker = ProfileStream::Broker->new(topics => [ [ 'events', 4 ] ]);
my $node = ProfileStream::Node->start_new('main');
my @files = @{ $events->{files} };
my $profiles = 'profile_stream.materialized_profiles';

# Waits until the rebuild has done so many messages.
sub wait_progress
{
	my ($done) = @_;
	return $node->poll_query_until('postgres', "SELECT coalesce((SELECT events_done > $done FROM profile_stream.stat_rebuilds), false)");
}

my $first = () = slurp_file($files[0]) =~ /\n/g;
$broker->produce_file('events', shift @files);
# small batches, so that there is time to hit it
$node->create_stream('crm', $broker, 'events', batch_size => 50, batch_wait => "'1 ms'");
ok($node->wait_taken('crm', $first), 'there are profiles');

foreach my $round (1 .. $rounds)
{
	my $producer = $broker->start_producing('events', shift @files);
	my $damage = $node->sql("SELECT customer_id FROM $profiles ORDER BY md5(customer_id || '$round') LIMIT 1");

	$node->sql("UPDATE $profiles SET version = version + 1000, account_count = 77 WHERE customer_id = '$damage'");
	$node->sql("SELECT profile_stream.rebuild('crm')");
	ok(wait_progress(0), "round $round: the rebuild has begun");
	$node->kill_process($node->rebuild_pid) or die 'could not kill the rebuild';
	$broker->finish_producing($producer);
	$producer = $broker->start_producing('events', shift @files);
	ok(wait_progress(100), "round $round: after its worker was killed it goes on");
	$node->stop('immediate');
	$node->start;
	$broker->finish_producing($producer);
	$producer = $broker->start_producing('events', shift @files);
	ok($node->wait_rebuild('ready'), "round $round: after an immediate stop it gets ready");
	$broker->finish_producing($producer);

	# while events come
	$producer = $broker->start_producing('events', shift @files);
	cmp_ok($node->sql("SELECT count(*) FROM profile_stream.rebuild_diff('crm', 1000000) WHERE customer_id = '$damage'"), '==', 1,
		"round $round: the damage shows");
	cmp_ok($node->sql("SELECT profile_stream.swap_rebuild('crm')"), '>=', 1, "round $round: swapped while events come");
	is($node->sql("SELECT count(*) FROM $profiles WHERE account_count = 77 AND customer_id = '$damage'"), '0', "round $round: repaired");
	$broker->finish_producing($producer);
	$broker->produce_file('events', shift @files);
	ok($node->wait_rebuild(''), "round $round: the rebuild is over");
}

ok($node->wait_taken('crm', $events->{events}), 'every message is taken');
$node->equals_model('crm', $events, "after $rounds rebuilds with faults, seed $seed");
ok($node->poll_query_until('postgres', "SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'profile_stream rebuild'"),
	'no worker of a rebuild is left');
$node->is_clean('end');

$node->stop('fast');
$broker->stop;
done_testing();

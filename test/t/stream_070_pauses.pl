# Pauses while events pour in and while batches wait for locks. Once a stream is paused nothing is committed, except what it
# held for reordering. A pause, a change or an end never waits for a batch that hangs.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Utils;
use ProfileStream::Broker;
use ProfileStream::Node;
use Test::More;
use Time::HiRes qw(usleep);

plan skip_all => 'needs a Kafka (KAFKA_HOME)' unless ProfileStream::Broker::available();

my $broker = ProfileStream::Broker->new(topics => [ [ 'pauses', 4 ] ]);
my $node = ProfileStream::Node->start_new('main');
my $profiles = 'profile_stream.materialized_profiles';
my $written = 'SELECT (SELECT sum(applied) FROM profile_stream_internal.stream_offsets),'
  . " (SELECT sum(version) FROM $profiles), (SELECT count(*) FROM profile_stream_internal.event_ids)";
my $produced = 0;

sub produce
{
	my ($n) = @_;
	$broker->produce('pauses', map {
			[ $_ % 4, "c$_", sprintf('{"eventId":"%d","customerId":"c%d","eventType":"x","timestamp":"2026-01-01T00:00:00Z"}', ++$produced, $_) ]
	} 1 .. $n);
}

sub is_whole
{
	my ($name) = @_;
	ok($node->wait_taken('pauses', $produced), "$name: everything is taken");
	is($node->sql("SELECT applied, duplicates FROM profile_stream.stat_streams"), "$produced|0", "$name: once");
	$node->is_balanced('pauses', $name);
}

$node->create_stream('pauses', $broker, 'pauses', workers => 2, batch_size => 50, batch_wait => "'0'");
produce(1000);
my ($changed, $late) = (0, 0);
foreach my $round (1 .. 15)
{
	produce(4000);
	usleep(rand(200_000));
	$node->sql("SELECT profile_stream.pause_stream('pauses')");
	my $before = $node->sql($written);
	$node->wait_state('pauses', 'paused') or last;
	my $paused = $node->sql($written);
	$changed++ if $paused ne $before;
	usleep(50_000);
	$late++ if $node->sql($written) ne $paused;
	$node->sql("SELECT profile_stream.resume_stream('pauses')");
}
is($changed, 0, 'nothing is committed after a pause');
is($late, 0, 'nor once the state says so');
is_whole('after pauses');

# a batch hangs in a lock: whoever changes the stream does not
my $session = $node->background_psql('postgres', on_error_stop => 1);
my %calls = (
	'a pause' => sub {
		$node->sql("SELECT profile_stream.pause_stream('pauses')");
		ok($node->wait_state('pauses', 'paused'), 'a pause: it is paused while the lock is kept');
		ok($node->wait_worker(0), 'a pause: no worker is left');
		$node->sql("SELECT profile_stream.resume_stream('pauses')");
	},
	'a change' => sub {
		$node->sql("SELECT profile_stream.alter_stream('pauses', workers => 1)");
		ok($node->wait_worker(1), 'a change: a worker is gone while the lock is kept');
		$node->sql("SELECT profile_stream.alter_stream('pauses', workers => 2)");
	},
	'an end' => sub {
		my $pid = $node->stream_pid('pauses');
		$node->sql("SELECT pg_terminate_backend($pid)");
		ok($node->wait_stream_pid('pauses', $pid), 'an end: another worker comes while the lock is kept');
	},
);
foreach my $lock ("LOCK TABLE $profiles IN SHARE MODE", 'SELECT FROM profile_stream_internal.stream_offsets FOR UPDATE', 'LOCK TABLE profile_stream_internal.dead_letters')
{
	foreach my $name (sort keys %calls)
	{
		my ($table) = $lock =~ /profile_stream\.(\w+)/;
		$session->query_safe($_) foreach 'BEGIN', $lock;
		produce(100);
		ok($node->wait_state('pauses', 'waiting'), "$name, $table: the batch waits");
		$calls{$name}->();
		$session->query_safe('ROLLBACK');
		is_whole("$name, $table");
	}
}
$session->quit;

# dropped while it hangs
$session = $node->background_psql('postgres', on_error_stop => 1);
$session->query_safe($_) foreach 'BEGIN', "LOCK TABLE $profiles IN SHARE MODE";
produce(100);
ok($node->wait_state('pauses', 'waiting'), 'dropped: the batch waits');
my $applied = $node->sql("SELECT sum(version) FROM $profiles");
$node->sql("SELECT profile_stream.drop_stream('pauses')");
ok($node->wait_worker(0), 'dropped: no worker is left, while the lock is kept');
$session->query_safe('ROLLBACK');
$session->quit;
is($node->sql("SELECT sum(version) FROM $profiles"), $applied, 'dropped: nothing more is applied');

$node->is_clean('end');
$node->stop('fast');
$broker->stop;
done_testing();

# A worker is frozen in the middle of a batch while another process reads its partition on. When it thaws, its batch has no
# effect, and it goes on where the other one stopped.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Utils;
use ProfileStream::Broker;
use ProfileStream::Node qw(event);
use Test::More;

my $broker = ProfileStream::Broker->new(
	mock => !ProfileStream::Broker::available(),
	topics => [ [ 'events', 1 ] ]);
my $node = ProfileStream::Node->start_new('main');
my $before = 100;
my $batch = 50;

# The event of a number, of one of seven customers.
sub seen { return event("e$_[0]", 'c' . $_[0] % 7); }
# What the events did, and what the row says of them; all but the number of commits.
sub effects
{
	return $node->sql('SELECT count(*), sum(version), sum(hashtextextended(p::text, 0)) FROM profile_stream.materialized_profiles p',
		'SELECT count(*), sum(hashtextextended(e::text, 0)) FROM profile_stream_internal.event_ids e',
		'SELECT count(*) FROM profile_stream.dead_letters',
		'SELECT next_offset, read_offset, epoch, consumed, applied, duplicates, dead, replayed, commits FROM profile_stream_internal.stream_offsets');
}

$broker->produce('events', map { [ 0, 'k', seen($_) ] } 1 .. $before);
$node->create_stream('crm', $broker, 'events');
ok($node->wait_taken('crm', $before), 'the stream runs');
my $pid = $node->stream_pid('crm');

# a batch is read and decoded; its transaction has begun, and is frozen there, early in a wait that ends after a second
my $successor = $node->background_psql('postgres');
$successor->query_safe('BEGIN; LOCK TABLE profile_stream_internal.event_id_chunks');
$broker->produce('events', map { [ 0, 'k', seen($_) ] } $before + 1 .. $before + $batch);
ok($node->poll_query_until('postgres', "SELECT wait_event_type = 'Lock' AND clock_timestamp() - xact_start < '0.5 s' FROM pg_stat_activity WHERE pid = $pid"), 'the worker is in the middle of a batch');
kill('STOP', $pid) == 1 or die 'could not freeze the worker';

# the lease cannot be taken from a process that lives, so this session does what a successor would: the same events
# and the move of the row
$successor->query_safe('SELECT profile_stream.apply_events(ARRAY[' . join(',', map { "'" . seen($_) . "'::jsonb" } $before + 1 .. $before + $batch) . '])');
$successor->query_safe("UPDATE profile_stream_internal.stream_offsets SET next_offset = next_offset + $batch, read_offset = read_offset + $batch,"
	  . " commits = commits + 1, consumed = consumed + $batch, applied = applied + $batch");
$successor->query_safe('COMMIT');
$successor->quit;
my $moved = effects();
my $from = -s $node->logfile;

kill('CONT', $pid);
ok($node->wait_for_log(qr/offsets of stream \d+ were moved by another worker/, $from), 'thawed: its batch is refused');
ok($node->wait_state('crm', 'running'), 'thawed: it goes on');
is(effects(), $moved, 'thawed: its batch had no effect');
is($node->stream_pid('crm'), $pid, 'thawed: the same process');

$broker->produce('events', map { [ 0, 'k', seen($_) ] } $before + $batch + 1 .. $before + 2 * $batch);
ok($node->wait_taken('crm', $before + 2 * $batch), 'it reads on from where the other one stopped');
is($node->sql('SELECT sum(version) FROM profile_stream.materialized_profiles'), $before + 2 * $batch, 'each event once');
is($node->sql('SELECT duplicates, dead, replayed FROM profile_stream_internal.stream_offsets'), '0|0|0', 'and none was read twice');

# a row that another worker moved and that a seek moved back stands where it stood
$successor = $node->background_psql('postgres');
$successor->query_safe('BEGIN; LOCK TABLE profile_stream_internal.event_id_chunks');
$broker->produce('events', map { [ 0, 'k', seen($_) ] } $before + 2 * $batch + 1 .. $before + 3 * $batch);
ok($node->poll_query_until('postgres', "SELECT wait_event_type = 'Lock' AND clock_timestamp() - xact_start < '0.5 s' FROM pg_stat_activity WHERE pid = $pid"), 'in the middle of a batch again');
kill('STOP', $pid) == 1 or die 'could not freeze the worker';
$successor->query_safe('UPDATE profile_stream_internal.stream_offsets SET commits = commits + 1');
$successor->query_safe('COMMIT');
$successor->quit;
$from = -s $node->logfile;
kill('CONT', $pid);
ok($node->wait_for_log(qr/offsets of stream \d+ were moved by another worker/, $from), 'a row that stands where it stood, but was moved meanwhile: refused');
ok($node->wait_taken('crm', $before + 3 * $batch), 'and read again');
is($node->sql('SELECT sum(version) FROM profile_stream.materialized_profiles'), $before + 3 * $batch, 'each event once, again');

$node->is_clean('end');
$node->stop('fast');
$broker->stop;
done_testing();

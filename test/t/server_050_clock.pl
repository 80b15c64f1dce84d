# The machine's clock is set a day back and a day forward while a stream runs, retries and holds events. Nothing waits for
# the day to pass, and windows are as of the moment that is asked for.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use IPC::Run ();
use PostgreSQL::Test::Utils;
use POSIX qw(strftime);
use ProfileStream::Broker;
use ProfileStream::Node;
use Test::More;

plan skip_all => 'needs a Kafka (KAFKA_HOME)' unless ProfileStream::Broker::available();

my $dir = PostgreSQL::Test::Utils::tempdir('clock');

# A library that shifts what gettimeofday() says by the seconds in a file, so PostgreSQL's clock and no other. librdkafka
# is told the machine's time, at which the system ends its waits: shifted, they would last a day, or not at all.
append_to_file("$dir/shift.c", <<"END");
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
static volatile long *seconds;
__attribute__((constructor)) static void find(void)
{
	seconds = mmap(0, sizeof(long), PROT_READ, MAP_SHARED, open("$dir/shift", O_RDONLY), 0);
}
int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
	static int (*original) (struct timeval *, void *);
	Dl_info		caller;
	int			result;

	if (!original)
		original = (int (*) (struct timeval *, void *)) dlsym(RTLD_NEXT, "gettimeofday");
	result = original(now, zone);
	if (!dladdr(__builtin_return_address(0), &caller) || !strstr(caller.dli_fname, "librdkafka"))
		now->tv_sec += *seconds;
	return result;
}
END
IPC::Run::run([ 'cc', '-shared', '-fPIC', '-o', "$dir/shift.so", "$dir/shift.c", '-ldl' ]) or die 'could not compile';
open(my $shift, '>', "$dir/shift") or die $!;

# Sets the server's clock so many days from the machine's.
sub set_clock
{
	sysseek($shift, 0, 0);
	syswrite($shift, pack('q', 86400 * $_[0]));
}

set_clock(0);
my $seed = $ENV{PS_SEED} // int(rand(1_000_000));
# older than a clock of yesterday says
$ENV{PS_UNTIL} = strftime('%Y-%m-%dT%H:%M:00Z', gmtime(time - 3 * 86400));
my $events = ProfileStream::Node::generate(seed => $seed, events => $ENV{PS_EVENTS} // 50_000, customers => 2_000, parts => 5);
my @sizes = map { my $lines = () = slurp_file($_) =~ /\n/g; $lines } @{ $events->{files} };
my $broker = ProfileStream::Broker->new(topics => [ [ 'events', 4 ], [ 'held', 1 ] ]);
my $node;
{
	local $ENV{LD_PRELOAD} = "$dir/shift.so";
	$node = ProfileStream::Node->start_new('main');
}
my $produced = 0;

sub produce_next
{
	my ($name) = @_;
	$broker->produce_file('events', shift @{ $events->{left} });
	$produced += shift @sizes;
	ok($node->wait_taken('crm', $produced), "$name: everything is read");
}

# How many days the server's clock is from ours.
sub days { return sprintf('%.0f', ($node->safe_psql('postgres', 'SELECT extract(epoch FROM clock_timestamp())') - time) / 86400); }

my $n = 0;

# A held event is applied after its wait, though the clock is set meanwhile.
sub hold
{
	my ($name, $shift) = @_;
	$broker->produce('held', [ 0, 'h', sprintf('{"eventId":"h%d","customerId":"h","eventType":"seen","timestamp":"2026-01-01T00:00:00Z"}', ++$n) ]);
	ok($node->poll_query_until('postgres', "SELECT sum(held) = 1 FROM profile_stream.stat_streams WHERE stream = 'held'"), "$name: an event is held");
	set_clock($shift);
	ok($node->wait_taken('held', $n), "$name: and applied");
}

$events->{left} = [ @{ $events->{files} } ];
$node->create_stream('crm', $broker, 'events');
$node->create_stream('held', $broker, 'held', group_id => "'held'", reorder_wait => "'4 s'");
produce_next('now');
hold('back', -1);
is(days(), -1, 'the clock is set back');
produce_next('a day back');

hold('forth', 1);
is(days(), 1, 'the clock is set forth');

# an error whose next attempt would be a day away
$node->safe_psql('postgres', 'ALTER TABLE profile_stream_internal.event_id_chunks RENAME TO elsewhere');
$broker->produce_file('events', shift @{ $events->{left} });
$produced += shift @sizes;
ok($node->wait_state('crm', 'retrying'), 'an error: the stream retries');
set_clock(-1);
$node->safe_psql('postgres', 'ALTER TABLE profile_stream_internal.elsewhere RENAME TO event_id_chunks');
ok($node->wait_taken('crm', $produced), 'the clock is set back meanwhile: it does');

# the broker goes and comes
$broker->stop;
set_clock(0);
$broker->start;
produce_next('a broker comes back');
set_clock(-1);
$node->safe_psql('postgres', "SELECT profile_stream.pause_stream('crm')");
ok($node->wait_stopped('crm'), 'a stream is paused');
$node->safe_psql('postgres', "SELECT profile_stream.resume_stream('crm')");
produce_next('and resumed');
is($node->safe_psql('postgres', "SELECT profile_stream.wait_for_stream('crm')"), '', 'everything is visible');
$node->safe_psql('postgres', "DELETE FROM $_ WHERE customer_id = 'h'") foreach qw(profile_stream.materialized_profiles profile_stream_internal.event_id_chunks);
$node->equals_model('crm', $events, "the clock was set six times, seed $seed");
$node->is_clean('end');

$node->stop('fast');
$broker->stop;
done_testing();

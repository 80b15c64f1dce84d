# A session listens and keeps a transaction open until the server's notification queue is full. The stream goes on and
# counts the notifications that it does not send. PostgreSQL 17 and later can make the queue small. Before 17 it has
# 8 GB: the test fills it when PS_EVENTS is set (bench/faults.sh), and otherwise lowers the limit.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Utils;
use ProfileStream::Broker;
use ProfileStream::Node;
use Test::More;
use Time::HiRes qw(time usleep);

my $events = 500;
my $broker = ProfileStream::Broker->new(mock => !ProfileStream::Broker::available(), topics => [ [ 'events', 1 ] ]);
my $node = ProfileStream::Node->start_new('main');
my $small = $node->pg_version >= 17;
my $whole = $small || $ENV{PS_EVENTS};
my $limit = $whole ? 0.5 : 0.00001;
my $filled = 0;
my $produced = 0;

sub set_limit
{
	$node->sql("ALTER SYSTEM SET profile_stream.notify_queue_limit = $_[0]");
	$node->reload;
}

# Fills the queue by other notifications of a page each until more than a share of it is in use, or it takes none any more.
sub fill
{
	my ($share) = @_;
	my ($pages, $usage) = ($small || !$whole ? 4 : 20_000, 0);
	while ($usage <= $share)
	{
		my $number = $filled++;
		my ($rc, $out, $err) = $node->psql('postgres',
			"SELECT count(pg_notify('other', rpad('$number-' || n, 7900, 'x'))) FROM generate_series(1, $pages) n; SELECT pg_notification_queue_usage()");
		if ($rc != 0)
		{
			like($err, qr/too many notifications in the NOTIFY queue/, 'the queue takes no more') if $pages == 1;
			last if $pages == 1;
			$pages = int($pages / 2);
			next;
		}
		($usage) = $out =~ /([\d.e-]+)\z/;
	}
	return $usage;
}

# Has the stream apply events of as many customers; returns how many notifications it has skipped until then.
sub apply
{
	my ($name, $n) = @_;
	my $began = time;
	$broker->produce('events', map { [ 0, 'k', qq({"eventId":"$name$_","customerId":"c$_","eventType":"seen","timestamp":"2026-01-01T00:00:00Z"}) ] } 1 .. $n);
	$produced += $n;
	ok($node->wait_taken('events', $produced), "$name: the stream goes on");
	note(sprintf('%s: %d events, everything applied %.1f s', $name, $n, time - $began));
	is($node->sql("SELECT state, applied FROM profile_stream.stat_streams"), "running|$produced", "$name: everything is applied");
	return $node->sql('SELECT notifications_skipped FROM profile_stream.stat_streams');
}

if ($small)
{
	$node->append_conf('postgresql.conf', 'max_notify_queue_pages = 64');
	$node->restart;
}
set_limit($limit);
$node->create_stream('events', $broker, 'events');
my $listener = $node->background_psql('postgres');
$listener->query_safe('LISTEN other');
my $pid = $listener->query_safe('SELECT pg_backend_pid()');
$listener->query_safe('BEGIN');
is(apply('empty', 10), 0, 'while there is room none is skipped');

my $from = -s $node->logfile;
my $began = time;
cmp_ok(fill($limit), '>', $limit, 'the queue is full up to the limit');
note(sprintf('%d MB in %.0f s', $node->sql("SELECT sum(size) / 1000000 FROM pg_ls_dir('pg_notify') f, pg_stat_file('pg_notify/' || f)"), time - $began));
is(apply('half', $events), $events, 'what is skipped is counted');
like(slurp_file($node->logfile, $from), qr/WARNING:  notifications are skipped, because .*\n.*HINT:  End the session/, 'the log says why');

# whatever the limit: nothing fails, and nothing is a dead letter, because there is no room
if ($whole)
{
	set_limit(1);
	fill(1);
	$from = -s $node->logfile;
	is(apply('whole', $events), 2 * $events, 'without any room: counted');
	like(slurp_file($node->logfile, $from), qr/WARNING:  notifications are skipped: too many notifications/, 'without any room: the log says why');
	set_limit($limit);
}
is($node->sql('SELECT count(*) FROM profile_stream.dead_letters'), 0, 'no dead letter');

$node->sql("SELECT pg_terminate_backend($pid)");
$node->poll_query_until('postgres', "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $pid") or die 'timed out';
my $skipped = $node->sql('SELECT notifications_skipped FROM profile_stream.stat_streams');
my $second = $node->background_psql('postgres');
$second->query_safe('LISTEN ' . $node->channel);
is(apply('free', 10), $skipped, 'the queue is free: none is skipped');
my $heard = '';
for (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
{
	$heard .= $second->query('SELECT 1');
	last if $heard =~ /"c10"/;
	usleep(100_000);
}
like($heard, qr/Asynchronous notification "profile_updates_\w+".*"c10"/s, 'the queue is free: notifications come again');
$second->quit;
$node->is_clean('queue');
$node->stop;
done_testing();

# The demo, as a log: it shows what its headings promise, what it sent is in the tables although the worker was killed, and
# when it is ended nothing of it is left.

use strict;
use warnings;

use FindBin;

use IPC::Run ();
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

plan skip_all => 'no redis-server' if system('command -v redis-server >/dev/null') != 0;

my ($out, $err) = ('', '');
my $demo = IPC::Run::start([ "$FindBin::RealBin/../../scripts/demo.sh", '--plain', '--keep', '--no-build' ], '<', \undef, '>', \$out, '2>', \$err);
for (1 .. 20 * $PostgreSQL::Test::Utils::timeout_default)
{
	$demo->pump_nb;
	last if $out =~ /To end everything/ || !$demo->pumpable;
	usleep(50_000);
}
like($out, qr/To end everything/, 'it comes to its end') or diag("out: $out\nerr: $err");

my ($folder) = $out =~ /psql -h (\S+) -U postgres/;
my $totals = qr/\| +(\d+) \| +(\d+) \| +(\d+) \| +(-?[\d.]+)$/m;
my ($sent) = $out =~ /^ in the messages (.*)$/m;
my ($stored) = $out =~ /^ in the tables   (.*)$/m;
like($sent, $totals, 'it counts what was sent');
is($stored, $sent, 'and all of it is in the tables, once');
like($out, qr/^kill -9   [\d:]+ process \d+,/m, 'though the worker was killed');
like($out, qr/^produced [\d:.]+, visible \.\d{3}: \d+ ms$/m, 'the time of one event');
like($out, qr/^ 1      \|       59\.90$/m, 'an event type of its own');
like($out, qr/^ (?:champion|loyal) +\| +\d+ \|/m, 'scored segments');
like($out, qr/^redis-cli TTL profile:c-1001\n\d+$/m, 'a key of Redis that expires');
like($out, qr/^\{.*"customerId": "c-1001".*\}$/m, 'with the profile');
like($out, qr/^ handler   \| Processing error: amount is not a number +\| +\d+$/m, 'dead letters in words');
is($err, '', 'no complaints');

my $client = [ 'psql', '-X', '-At', '-h', $folder, '-U', 'postgres', '-c', 'SELECT count(*) FROM profile_stream.profiles' ];
my ($rows) = run_command($client);
is($rows, 1000, 'the server stays');
is((run_command([ 'redis-cli', '-s', "$folder/redis.sock", 'EXISTS', 'profile:c-1001' ]))[0], '1', 'and the Redis');
my $pids = join(' ', map { (split ' ', slurp_file($_))[0] } "$folder/data/postmaster.pid");
$pids .= ' ' . (run_command([ 'redis-cli', '-s', "$folder/redis.sock", 'INFO', 'server' ]))[0] =~ s/.*process_id:(\d+).*/$1/sr;
$demo->signal('TERM');    # INT may be ignored here, as in every background job
eval { $demo->finish };
ok(!-e $folder, 'ended: its folder is gone');
# their last act is to remove files, and they are there for a moment longer; who has ended has no command line
my $alive = sub { return grep { -e "/proc/$_" && slurp_file("/proc/$_/cmdline") ne '' } split(' ', $pids) };
foreach (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
{
	last if !$alive->();
	usleep(100_000);
}
is(scalar($alive->()), 0, 'and its server and Redis are');
done_testing();

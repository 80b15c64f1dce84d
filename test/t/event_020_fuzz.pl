# The decoder and all other parsers of foreign bytes take a million damaged events and random bytes under the address and
# undefined-behaviour sanitizers, with no finding. PS_SEED and PS_EVENTS change the run.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use IPC::Run ();
use ProfileStream::Broker;
use Test::More;

my $seed = $ENV{PS_SEED} // 42;
my $events = $ENV{PS_EVENTS} // 1_000_000;
my ($out, $err);

# of the tool itself leaks are findings, whatever the tests run with
$ENV{ASAN_OPTIONS} = 'detect_leaks=1';
note("seed $seed, $events events");
ok(IPC::Run::run([ ProfileStream::Broker::tool('fuzz_event'), $seed, $events ], '>', \$out, '2>', \$err), 'no finding')
  or diag($out, $err);
is($err, '', 'and no leak');
my ($valid) = $out =~ /^(\d+) valid$/;
cmp_ok($valid // 0, '>', $events / 10, 'many of them are events all the same');
cmp_ok($valid // 0, '<', $events, 'and many are not');
done_testing();

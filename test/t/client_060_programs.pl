# The programs of examples/ that act on profiles: the support dashboard, in a headless browser; a recommender, which listens to
# updates; and a campaign, which starts when somebody enters a segment. PS_SHOT names a file for a picture of the dashboard.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use IPC::Run ();
use JSON::PP;
use PostgreSQL::Test::Utils;
use ProfileStream::Broker;
use ProfileStream::Node;
use Test::More;
use Time::HiRes qw(usleep);

my $examples = "$FindBin::RealBin/../../examples";
my $node = ProfileStream::Node->start_new('main');
my $dir = PostgreSQL::Test::Utils::tempdir('programs');
my %environment = (PGHOST => $node->host, PGPORT => $node->port, PGUSER => 'app', PGDATABASE => 'postgres');
my $number = 0;
my @started;
$node->sql('CREATE ROLE app LOGIN; GRANT profile_stream_reader TO app');

sub apply
{
	my ($customer, $type, $payload) = @_;
	$number++;
	return $node->sql(qq(SELECT profile_stream.apply_event(jsonb_build_object('eventId', 'e$number', 'customerId', '$customer', 'eventType', '$type', 'timestamp', now(), 'payload', \$p\$$payload\$p\$::jsonb))));
}

# Starts a program, of which out and err are kept.
sub start
{
	my @command = @_;
	my $program = { out => '', err => '' };
	local @ENV{ keys %environment } = values %environment;
	$program->{in} = '';
	$program->{harness} = IPC::Run::start(\@command, '<', \$program->{in}, '>', \$program->{out}, '2>', \$program->{err});
	push @started, $program;
	return $program;
}

# Waits until what a program says matches.
sub said
{
	my ($program, $stream, $pattern) = @_;
	for (1 .. 20 * $PostgreSQL::Test::Utils::timeout_default)
	{
		$program->{harness}->pump_nb;
		return 1 if $program->{$stream} =~ $pattern;
		usleep(50_000);
	}
	diag("out: $program->{out}\nerr: $program->{err}");
	return 0;
}

END
{
	local $?;
	$_->{harness}->kill_kill foreach @started;
}

# the dashboard
my $evil = '<img src=x onerror="document.title=1"><script>document.title=2</script>';
apply('c-1', 'customer.profile.updated', '{"firstName": "Ada", "lastName": "Berg", "email": "ada@example.com"}');
apply('c-1', 'account.opened', '{"initialBalance": 1500}');
apply("c-$_->[0]", 'customer.profile.updated', qq({"firstName": "$_->[1]", "lastName": "$_->[2]"})) foreach [ 11, 'Ben', 'Costa' ], [ 12, 'Ines', 'Novak' ], [ 13, 'Samir', 'Weber' ];
apply('c-14', 'session.started', '{}');
my $dashboard = start('/usr/bin/python3', "$examples/dashboard.py", 0);
ok(said($dashboard, 'out', qr/^http:/), 'dashboard: starts');
my ($url) = $dashboard->{out} =~ m{^(http://127\.0\.0\.1:\d+/)};
my $browser = start('/usr/bin/python3', ProfileStream::Broker::tool('browser.py'));

# What the browser answers to a command.
sub browser
{
	my ($command) = @_;
	$browser->{out} = '';
	$browser->{in} .= "$command\n";
	said($browser, 'out', qr/\n/) or die 'the browser does not answer';
	return JSON::PP->new->allow_nonref->decode($browser->{out});
}
my $seconds = $PostgreSQL::Test::Utils::timeout_default;
my $card = 'document.querySelector(\'[data-member="%s"] b\')?.textContent';
ok(browser("open ${url}?customer=c-1"), 'dashboard: the browser opens it');
ok(browser("wait $seconds " . sprintf($card, 'totalBalance') . " === '1500'"), 'dashboard: it shows the profile');
is(browser('eval document.getElementById("name").textContent'), 'Ada Berg', 'dashboard: and the name');
is(browser('eval [...document.querySelectorAll("#customers a")].map((a) => a.textContent.replace(/[^ -~]/, "-")).filter((t) => t.startsWith("c-")).join()'), 'c-14 - not scored yet', 'dashboard: who has no name yet has an id');
apply('c-1', 'transaction.completed', '{"amount": 12.5}');
ok(browser("wait $seconds " . sprintf($card, 'transactionCount30d') . " === '1'"), 'dashboard: a change is seen without a reload');
like(browser('eval document.querySelector("#changes li")?.textContent'), qr/transactionCount30d: 0 \S+ 1, totalTransactionValue30d/, 'dashboard: and said');
apply('c-11', 'session.started', '{"channel": "web"}');
apply('c-1', 'session.started', '{"channel": "web"}');
ok(browser("wait $seconds " . sprintf($card, 'preferredChannel') . " === 'web'"), 'dashboard: what others do is not shown');
is(browser('eval document.getElementById("changes").children.length'), 2, 'dashboard: once each');
browser("shot $ENV{PS_SHOT}") if $ENV{PS_SHOT};
apply('c-2', 'customer.profile.updated', encode_json({ firstName => $evil, email => '</script>&<b>' }));
$node->sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app'");
apply('c-1', 'transaction.completed', '{"amount": 1}');
ok(browser("wait $seconds " . sprintf($card, 'transactionCount30d') . " === '2'"), 'dashboard: it connects again');
browser("open ${url}?customer=c-2");
ok(browser("wait $seconds document.getElementById('name').textContent === " . encode_json([$evil]) . '[0]'), 'dashboard: HTML in the data is text');
is(browser('eval document.title + document.querySelectorAll("img").length'), 'Customers0', 'dashboard: and does nothing');
$node->sql("SELECT profile_stream.forget_customer('c-2')");
ok(browser("wait $seconds document.getElementById('name').textContent === 'No such customer'"), 'dashboard: who is forgotten is gone');

# the recommender
my $recommender = start('/usr/bin/python3', "$examples/recommender.py");
ok(said($recommender, 'err', qr/listening/), 'recommender: listens');
apply('c-3', 'customer.profile.updated', '{"firstName": "Ben"}');
ok(said($recommender, 'out', qr/^c-3: Ben, how about a welcome bonus for your first payment\?$/m), 'recommender: suggests');
apply('c-3', 'account.opened', '{"initialBalance": 2500}');
ok(said($recommender, 'out', qr/^c-3: Ben, how about a savings account\?$/m), 'recommender: something else, as the profile changes');
apply('c-3', 'session.started', '{}');
apply('c-4', 'account.opened', '{"initialBalance": 10000}');
ok(said($recommender, 'out', qr/^c-4: You, how about an appointment with your adviser\?$/m), 'recommender: to others, too');
is(scalar(() = $recommender->{out} =~ /^c-3/mg), 2, 'recommender: nothing twice');

# the campaign
$node->sql("SELECT profile_stream.create_segment('wealthy', 'total_balance >= 5000')");
$node->sql('CALL profile_stream.refresh_segments()');
my $campaign = start('/usr/bin/python3', "$examples/campaign.py", 'wealthy', "$dir/bookmark");
ok(said($campaign, 'err', qr/waiting/), 'campaign: waits');
apply('c-5', 'account.opened', '{"initialBalance": 6000}');
$node->sql('CALL profile_stream.refresh_segments()');
ok(said($campaign, 'out', qr/^c-5 entered wealthy$/m), 'campaign: starts when somebody enters');
$campaign->{harness}->kill_kill;
@started = grep { $_ != $campaign } @started;
apply('c-6', 'account.opened', '{"initialBalance": 7000}');
$node->sql('CALL profile_stream.refresh_segments()');
$campaign = start('/usr/bin/python3', "$examples/campaign.py", 'wealthy', "$dir/bookmark");
ok(said($campaign, 'out', qr/^c-6 entered wealthy$/m), 'campaign: who entered while it did not run is not missed');
ok(said($campaign, 'err', qr/waiting/), 'campaign: has read all');
is($campaign->{out}, "c-6 entered wealthy\n", 'campaign: and nobody comes twice');
$node->stop;
done_testing();

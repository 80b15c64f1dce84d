# Live segments beside a stream whose worker is killed and whose server is restarted, also between writing members and the
# commit. At the end the members are those of an independent model, at two moments, and those of the view at any other; each
# change is there once. Also: a rebuild, a dump and its restore, a predicate that fails, notifications, and a busy customer.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use JSON::PP;
use PostgreSQL::Test::Utils;
use ProfileStream::Broker;
use ProfileStream::Node;
use Test::More;

plan skip_all => 'needs a Kafka (KAFKA_HOME)' unless ProfileStream::Broker::available();

my $kills = 4;
my $seed = $ENV{PS_SEED} // int(rand(1_000_000));
srand($seed);
my $events = ProfileStream::Node::generate(seed => $seed, events => $ENV{PS_EVENTS} // 30_000, customers => 600, repeats => 0.3, parts => $kills + 1);
my $broker = ProfileStream::Broker->new(topics => [ [ 'events', 4 ], [ 'few', 1 ] ]);
my $node = ProfileStream::Node->start_new('main');
plan skip_all => 'needs a build with FAILPOINTS=yes' unless $node->has_failpoints;
my $produced = 0;

# what the model says of a customer decides, too: name, predicate, and the same in Perl of a row and the number of a moment
my @rules = (
	[ 'rich', 'total_balance > 1000', sub { $_[0]{total_balance} > 1000 } ],
	# the view has NULL for a channel that is not known, the table an empty text
	[ 'accounts', 'account_count >= 2 AND NULLIF(preferred_channel, \'\') <> \'app\'', sub { $_[0]{account_count} >= 2 && $_[0]{preferred_channel} !~ /^(app|)$/ } ],
	[ 'named', 'first_name <> \'\'', sub { $_[0]{first_name} ne '' } ],
	[ 'busy', 'transaction_count_30d >= 5', sub { $_[0]{"transaction_count_30d\@$_[1]"} >= 5 } ],
	[ 'few', 'transaction_count_30d BETWEEN 1 AND 3', sub { my $n = $_[0]{"transaction_count_30d\@$_[1]"}; $n >= 1 && $n <= 3 } ],
	[ 'spending', 'total_transaction_value_30d > 500', sub { $_[0]{"total_transaction_value_30d\@$_[1]"} > 500 } ],
	[ 'here', 'login_count_7d > 1', sub { $_[0]{"login_count_7d\@$_[1]"} > 1 } ],
	[ 'quiet', "last_login_at < now() - interval '5 days' AND version > 10", sub { my ($p, $i, $at) = @_; defined $p->{last_login_at} && $p->{last_login_at} < $at - 5 * 86_400_000_000 && $p->{version} > 10 } ],
	[ 'tickets', 'support_ticket_count_90d = 2', sub { $_[0]{"support_ticket_count_90d\@$_[1]"} == 2 } ]);

# Ends a failpoint that kills. The next worker may still begin with it: one that lives for some seconds does not.
sub end_failpoint
{
	$node->set_failpoint('');
	return $node->poll_query_until('postgres',
		"SELECT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'profile_stream worker' AND backend_start < now() - interval '3 s')");
}

# Lets workers take another moment for now, and waits until the checks that are due then are done.
sub go_to
{
	my ($at) = @_;
	my $clock = $node->sql("SELECT (extract(epoch FROM '$at'::timestamptz - '2000-01-01Z') * 1000000)::bigint");
	$node->sql("ALTER SYSTEM SET profile_stream.failpoint_clock = '$clock'");
	$node->reload;
	return $node->poll_query_until('postgres', "SELECT NOT EXISTS (SELECT FROM profile_stream_internal.segment_checks WHERE due_at <= '$at')"
		  . " AND NOT EXISTS (SELECT FROM profile_stream_internal.segments WHERE filled_to IS NOT NULL)");
}

# The members that a query over the view's columns at a moment finds, but are not, and the other way round.
sub wrong_members
{
	my ($at, $dbname) = @_;
	my $t = "'$at'::timestamptz";
	my $metrics = join(', ', map { "profile_stream.window_value(p.customer_id, p.window_state, '$_', $t) AS $_" }
		  qw(transaction_count_30d total_transaction_value_30d login_count_7d support_ticket_count_90d));
	my $shall = join(' UNION ALL ', map { my $p = $_->[1] =~ s/now\(\)/$t/r; "SELECT '$_->[0]' AS segment, customer_id FROM v WHERE $p" } @rules);
	return $node->safe_psql($dbname // 'postgres', <<"END");
WITH v AS (SELECT p.*, $metrics FROM profile_stream.materialized_profiles p), s AS ($shall), m AS (SELECT segment, customer_id FROM profile_stream.segment_members)
SELECT count(*) FROM ((TABLE s EXCEPT TABLE m) UNION ALL (TABLE m EXCEPT TABLE s)) x
END
}

# Members and the history of each of them: one entered row more than left rows.
my $wrong_history = <<'END';
SELECT count(*) FROM (SELECT COALESCE(from_segment, to_segment) AS segment, customer_id, count(to_segment) - count(from_segment) AS is_member
	FROM profile_stream.segment_changes WHERE kind = 'rule' GROUP BY 1, 2) c FULL JOIN profile_stream.segment_members m USING (segment, customer_id)
WHERE COALESCE(c.is_member, 0) <> CASE WHEN m.entered_at IS NULL THEN 0 ELSE 1 END
END

# The same by what the model says.
sub equals_model_at
{
	my ($i, $name) = @_;
	my $model = decode_json(slurp_file("$events->{dir}/expected.json"));
	my $at = $model->{as_of}[$i];
	my %shall;
	foreach my $profile (@{ $model->{profiles} })
	{
		my $id = $profile->{customer_id};
		utf8::encode($id);
		$_->[2]->($profile, $i, $at) && $shall{"$_->[0] $id"}++ foreach @rules;
	}
	my %is = map { $_ => 1 } split(/\n/, $node->sql("SELECT segment || ' ' || customer_id FROM profile_stream.segment_members"));
	my @wrong = ((grep { !$is{$_} } sort keys %shall), (grep { !$shall{$_} } sort keys %is));
	cmp_ok(scalar(keys %shall), '>', 300, "$name: the model has members");
	is(scalar(@wrong), 0, "$name: the members are the model's") || diag("@wrong[0 .. ($#wrong > 9 ? 9 : $#wrong)]");
}

# kills while events flow; the clock stands, so that nothing changes with time
my $until = $events->{until};
$node->append_conf('postgresql.conf', "profile_stream.failpoint_clock = '0'");
go_to($until);
$node->sql("SELECT profile_stream.create_segment('$_->[0]', \$p\$$_->[1]\$p\$, evaluate => 'live', quiet_period => '0')") foreach @rules[ 0 .. 5 ];
$node->create_stream('crm', $broker, 'events', batch_size => 500, workers => 2);
foreach my $part (0 .. $kills)
{
	my $from = -s $node->logfile;
	$node->set_failpoint('after_segments:kill') if $part == 2;
	$broker->produce_file('events', $events->{files}[$part]);
	if ($part == 1)
	{
		# segments that come while events flow see the customers of before
		$node->sql("SELECT profile_stream.create_segment('$_->[0]', \$p\$$_->[1]\$p\$, evaluate => 'live', quiet_period => '0')") foreach @rules[ 6 .. $#rules ];
	}
	if ($part == 2)
	{
		$node->wait_for_log(qr/was terminated by signal 9/, $from);
		end_failpoint();
	}
	if ($part == 3)
	{
		$node->stop('immediate');
		$node->start;
	}
	$node->wait_alive;
	if ($part > 0 && $part != 3)
	{
		ok($node->wait_stream_pid('crm'), 'there is a worker');
		$node->kill_process($node->stream_pid('crm'));
		$node->wait_alive;
	}
}
ok($node->wait_taken('crm', $events->{events}), 'every message is taken');
$node->equals_model('crm', $events, "$kills kills, seed $seed");
ok(go_to($until), 'nothing is due');
equals_model_at(0, 'after the kills');
is(wrong_members($until), '0', 'they are those of the view');
is($node->sql($wrong_history), '0', 'each change is there once');
my $by_time = $node->sql('SELECT count(*) FROM profile_stream.segment_changes WHERE event_id IS NULL');
is($node->sql('SELECT count(*) FROM profile_stream.segment_changes c WHERE event_id IS NOT NULL AND NOT EXISTS (SELECT FROM profile_stream_internal.event_ids i'
		  . ' WHERE i.customer_id = c.customer_id AND i.hash = profile_stream_internal.event_id_hash(c.event_id, 0))'), '0', 'each change by an event names one of its customer');

# time alone: no event comes, and the sweep is killed
my $later = $node->sql("SELECT to_timestamp(" . decode_json(slurp_file("$events->{dir}/expected.json"))->{as_of}[1] . " / 1000000.0)");
my $from = -s $node->logfile;
$node->sql("ALTER SYSTEM SET profile_stream.failpoint_clock = '" . $node->sql("SELECT (extract(epoch FROM '$until'::timestamptz + interval '1 day' - '2000-01-01Z') * 1000000)::bigint") . "'");
$node->set_failpoint('after_sweep:kill');	# loads the clock, too
$node->wait_for_log(qr/was terminated by signal 9/, $from);
end_failpoint();
ok(go_to("$later"), 'all checks are done');
equals_model_at(1, 'two days later');
is($node->sql($wrong_history), '0', 'each change is there once, also after a killed sweep');
cmp_ok($node->sql('SELECT count(*) FROM profile_stream.segment_changes WHERE event_id IS NULL'), '>', $by_time, 'time alone changed members');
foreach my $days (10, 40, 100)
{
	my $at = $node->sql("SELECT '$until'::timestamptz + interval '$days days'");
	ok(go_to($at), "$days days later all checks are done");
	is(wrong_members($at), '0', "the members are those of the view after $days days");
}
my $changes = $node->sql('SELECT count(*) FROM profile_stream.segment_changes');
$node->sql('CALL profile_stream.refresh_segments()');
is($node->sql('SELECT count(*) FROM profile_stream.segment_changes'), $changes, 'a refresh finds nothing to change');

# a rebuild: the members are those of before, and all are seen anew
my $back = $node->sql("SELECT '$until'::timestamptz + interval '100 days'");
my $members = $node->sql('SELECT count(*), sum(hashtextextended(segment || customer_id, 0)) FROM profile_stream.segment_members');
$node->sql("UPDATE profile_stream.materialized_profiles SET total_balance = 5000, segment_state = NULL WHERE customer_id = (SELECT min(customer_id) FROM profile_stream.materialized_profiles)");
$node->sql("SELECT profile_stream.rebuild('crm')");
ok($node->wait_rebuild('ready'), 'a rebuild gets ready');
is($node->sql("SELECT profile_stream.swap_rebuild('crm')"), '1', 'it brings one profile back');
ok(go_to($back), 'all customers are seen anew');
is($node->sql('SELECT count(*), sum(hashtextextended(segment || customer_id, 0)) FROM profile_stream.segment_members'), $members, 'the members are the same');

# who holds a customer's lock holds up nobody else
my $holder = $node->background_psql('postgres');
$holder->query_safe("BEGIN; SELECT profile_stream.lock_customer((SELECT min(customer_id) FROM profile_stream.materialized_profiles)); SELECT 1");
$node->sql("SELECT profile_stream.create_segment('everybody', 'version > 0')");
ok($node->poll_query_until('postgres', "SELECT EXISTS (SELECT FROM profile_stream_internal.segments WHERE filled_to = '')"), 'a segment waits for a customer');
$holder->query_safe('COMMIT');
$holder->quit;
ok(go_to($back), 'and goes on');
is($node->sql("SELECT count(*) FROM profile_stream.segment_members WHERE segment = 'everybody'"), $node->sql('SELECT count(*) FROM profile_stream.materialized_profiles'), 'it sees all');
$node->sql("SELECT profile_stream.drop_segment('everybody')");

# a predicate that fails stops nothing; notifications name the event
$node->sql("SELECT profile_stream.create_segment('fails', '100 / account_count > 10')", "SELECT profile_stream.create_segment('new', 'first_name = ''Zoe''')");
$node->create_stream('few', $broker, 'few', group_id => "'few'");
my $channel = $node->sql("SELECT profile_stream.notification_channel('segment_changes')");
my $listener = $node->background_psql('postgres');
$listener->query_safe("LISTEN $channel");
$broker->produce('few', [ 0, 'zoe', ProfileStream::Node::event('z-1', 'zoe', type => 'customer.profile.updated', payload => '{"firstName":"Zoe"}') ]);
ok($node->wait_taken('few', 1), 'the event is applied');
is($node->sql("SELECT state, error FROM profile_stream.stat_code WHERE name = 'fails'"), 'blocked|division by zero', 'the segment whose predicate fails is blocked');
is($node->sql("SELECT event_id FROM profile_stream.segment_changes WHERE to_segment = 'new'"), 'z-1', 'the other one has its member');
like($listener->query('SELECT 1') . $listener->query('SELECT 1'), qr/"customerId":"zoe","from":null,"to":"new","kind":"rule".*"lastEvent":\{"eventId":"z-1"/, 'a notification tells of it, and of the event');
$listener->quit;
$node->sql("SELECT profile_stream.drop_segment('fails'), profile_stream.drop_segment('new')");

# a dump: members come with it; segments wait for a confirmation, and then see all customers
command_ok([ 'pg_dump', '-Fc', '-f', "$events->{dir}/dump", $node->connstr('postgres') ], 'a dump');
$node->sql('CREATE DATABASE copy');
command_ok([ 'pg_restore', '-d', $node->connstr('copy'), "$events->{dir}/dump" ], 'its restore');
is($node->safe_psql('copy', 'SELECT count(*), sum(hashtextextended(segment || customer_id, 0)) FROM profile_stream.segment_members'),
	$node->sql('SELECT count(*), sum(hashtextextended(segment || customer_id, 0)) FROM profile_stream.segment_members'), 'members are restored');
my $counts = 'SELECT count(*) > 0, sum(hashtextextended(c::text, 0)) FROM profile_stream.segment_counts c';
is($node->safe_psql('copy', $counts), $node->sql($counts), 'and so are the counts of days');
is($node->safe_psql('copy', "SELECT DISTINCT state FROM profile_stream.stat_code"), 'unconfirmed', 'segments are not confirmed');
$changes = $node->safe_psql('copy', 'SELECT count(*) FROM profile_stream.segment_changes');
$node->safe_psql('copy', "SELECT profile_stream.confirm_code('segment'); CALL profile_stream.refresh_segments()");
is($node->safe_psql('copy', 'SELECT count(*) FROM profile_stream_internal.segments WHERE filled_to IS NOT NULL'), '0', 'confirmed, they have seen all customers');

$node->stop('fast');
$broker->stop;
done_testing();

# A role without grants cannot take a customer's lock, so it delays no event and no erasure. What sessions call waits for
# others for a bounded time, and then says for whom it waited.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Utils;
use ProfileStream::Broker;
use ProfileStream::Node;
use Test::More;

plan skip_all => 'needs a Kafka (KAFKA_HOME)' unless ProfileStream::Broker::available();

my $broker = ProfileStream::Broker->new(topics => [ [ 'crm', 1 ], [ 'changelog', 1 ] ]);
my $node = ProfileStream::Node->start_new('main');
my $profiles = 'profile_stream.materialized_profiles';
my $bound = "SET lock_timeout = '300 ms'";    # lower than that of the functions
my $produced = 0;

sub produce
{
	$broker->produce('crm', map {
			[ 0, $_, sprintf('{"eventId":"%d","customerId":"%s","eventType":"x","timestamp":"2026-01-01T00:00:00Z"}', ++$produced, $_) ]
	} @_);
}

# A session of a role, and its process id.
sub session
{
	my ($role, @sql) = @_;
	my $session = $node->background_psql('postgres', on_error_stop => 1);
	my $pid = $session->query_safe('SELECT pg_backend_pid()');
	$session->query_safe("SET ROLE $role");
	$session->query_safe($_) foreach @sql;
	return ($session, $pid);
}

$node->sql('CREATE ROLE nobody', 'CREATE ROLE reader IN ROLE profile_stream_reader', 'CREATE ROLE operator IN ROLE profile_stream_operator');
$node->create_stream('crm', $broker, 'crm');
produce('a', 'b');
ok($node->wait_taken('crm', $produced), 'the stream runs');

# every lock that a role without grants can take by an id's hash, or by any number that pg_locks shows of ours
my ($stranger) = session('nobody',
	'SELECT pg_advisory_lock(hashtextextended(id, 0)), pg_advisory_lock((hashtextextended(id, 0) >> 32)::int, 5), pg_advisory_lock(hashtext(id))'
	  . " FROM unnest(ARRAY['a', 'b'] COLLATE \"C\") id",
	'SELECT pg_advisory_lock(classid::int8::int, objid::int8::int) FROM pg_locks'
	  . " WHERE locktype = 'advisory' AND objsubid <> 2 AND classid::int8 < 2147483648 AND objid::int8 < 2147483648");
produce('a', 'b');
ok($node->wait_taken('crm', $produced), 'a role without grants holds up no event');
is($node->sql('SELECT held FROM profile_stream.stat_streams'), '0', 'and no customer');
is($node->sql("$bound", "SELECT profiles FROM profile_stream.forget_customer('b')"), '1', 'nor an erasure');
$node->sql("$bound", "SELECT profile_stream.rebuild('crm')", "SELECT profile_stream.cancel_rebuild('crm')");
$node->sql("$bound", "SELECT profile_stream.pause_stream('crm')", "SELECT profile_stream.resume_stream('crm')");
$stranger->quit;
foreach my $call ("lock_customer('a')", "try_lock_customer('a')", 'process_waits()', 'reported_ends()')
{
	$node->fails_like("SET ROLE nobody; SELECT profile_stream.$call", qr/permission denied for schema/, "$call by a role without grants");
}
foreach my $call ("lock_customer('a')", "try_lock_customer('a')")
{
	$node->fails_like("SET ROLE reader; SELECT profile_stream.$call", qr/permission denied for function/, "$call by a reader");
}

# who may apply may keep a customer
my ($operator, $pid) = session('operator', 'BEGIN', "SELECT profile_stream.lock_customer('a')");
is($node->sql("SELECT profile_stream.try_lock_customer('a')"), 'f', 'an operator has the lock of a customer');
is($node->sql("SELECT profile_stream.try_lock_customer('c')"), 't', 'and of no other');
produce('a');
ok($node->poll_query_until('postgres',
		"SELECT state = 'running' AND held = 1 AND error ~ 'customer \"a\" is deferred since 20.*: process $pid holds its lock' FROM profile_stream.stat_streams"),
	'its events are held, and the stream says who keeps it');
foreach my $call ("forget_customer('a')", "unblock_customer('a')")
{
	my ($name) = $call =~ /(\w+)/;
	$node->fails_like("$bound; SELECT profile_stream.$call", qr/$name\(\) waited too long for a lock.*held by (?:process \d+, )*process $pid\b/s, $call);
}
$operator->query_safe('COMMIT');
$operator->quit;
ok($node->wait_taken('crm', $produced), 'free again, they are applied');

# a row of the customer
($operator, $pid) = session('postgres', 'BEGIN', "SELECT FROM $profiles WHERE customer_id = 'a' FOR UPDATE");
$node->fails_like("$bound; SELECT profile_stream.forget_customer('a')", qr/forget_customer\(\) waited.*held by (?:process \d+, )*process $pid\b/s, 'a row that is kept');
$operator->query_safe('COMMIT');
$operator->quit;
is($node->sql("SELECT profiles FROM profile_stream.forget_customer('a')"), '1', 'the row free, the customer is forgotten');

# somebody reads the rebuild schema
($operator, $pid) = session('operator', 'BEGIN', 'SELECT count(*) FROM profile_stream_rebuild.materialized_profiles');
$node->fails_like("$bound; SELECT profile_stream.rebuild('crm')", qr/rebuild\(\) waited too long for a lock.*held by (?:process \d+, )*process $pid\b/s, 'a rebuild behind a reader');
$operator->query_safe('COMMIT');
$node->sql("SELECT profile_stream.rebuild('crm')");
ok($node->wait_rebuild('ready'), 'without the reader it begins');
$operator->query_safe($_) foreach 'BEGIN', 'SELECT count(*) FROM profile_stream_rebuild.materialized_profiles';
$node->fails_like("$bound; SELECT profile_stream.swap_rebuild('crm')", qr/swap_rebuild\(\) waited too long.*held by (?:process \d+, )*process $pid\b/s, 'a swap behind a reader');
$node->fails_like("$bound; SELECT profile_stream.cancel_rebuild('crm')", qr/cancel_rebuild\(\) waited too long.*held by (?:process \d+, )*process $pid\b/s, 'its end behind a reader');
$operator->query_safe('COMMIT');
$operator->query_safe($_) foreach 'RESET ROLE', 'BEGIN', 'LOCK TABLE profile_stream_rebuild.materialized_profiles IN SHARE MODE';
produce('d');
ok($node->poll_query_until('postgres', "SELECT error ~ 'materialized_profiles.*process $pid has' FROM profile_stream.stat_rebuilds"),
	'a rebuild that waits says for whom');
$operator->query_safe('COMMIT');
$operator->quit;
ok($node->wait_rebuild('ready'), 'and goes on');
$node->sql("SELECT profile_stream.cancel_rebuild('crm')");

# a sink that waits says for whom
$node->sql("SELECT profile_stream.alter_stream('crm', changelog_topic => 'changelog')");
ok($node->wait_sink('crm', "state = 'running' OR backlog = 0", 'changelog'), 'a sink is there');
($operator, $pid) = session('postgres', 'BEGIN', 'LOCK TABLE profile_stream_internal.sink_pending IN SHARE MODE');
produce('e');
ok($node->wait_sink('crm', "error ~ 'waits for .*on \"sink_pending\", which process $pid has, since 20'", 'changelog'), 'a sink that waits says for whom');
$operator->query_safe('COMMIT');
$operator->quit;
ok($node->wait_sink('crm', "state = 'running' AND error IS NULL AND backlog = 0", 'changelog'), 'and delivers at last');

# a stream that somebody else changes at this moment
($operator, $pid) = session('postgres', 'BEGIN', "SELECT profile_stream.alter_stream('crm', batch_size => 7)");
foreach my $call ("pause_stream('crm')", "drop_stream('crm')", "alter_stream('crm', batch_size => 8)", "resume_stream('crm')")
{
	my ($name) = $call =~ /(\w+)/;
	$node->fails_like("$bound; SELECT profile_stream.$call", qr/$name\(\) waited too long for a lock.*held by (?:process \d+, )*process $pid\b/s, $call);
}
$operator->query_safe('COMMIT');
$operator->quit;

$node->sql("SELECT profile_stream.pause_stream('crm')");
ok($node->wait_state('crm', 'paused'), 'paused');
$node->is_clean('end');
$node->stop('fast');
$broker->stop;
done_testing();

# A session keeps rows or tables that a stream writes. Customers whose rows are locked wait alone. Every other wait ends,
# and then the state names what the stream waits for and which process has it. In the end every event is applied once.
# Tested with direct access to the tables and with SQL statements, which a trigger on the table enforces.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Utils;
use ProfileStream::Broker;
use ProfileStream::Node;
use Test::More;

plan skip_all => 'needs a Kafka (KAFKA_HOME)' unless ProfileStream::Broker::available();

my $broker = ProfileStream::Broker->new(topics => [ [ 'rows', 2 ] ]);
my $node = ProfileStream::Node->start_new('main', conf => "max_prepared_transactions = 2\n");
my $profiles = 'profile_stream.materialized_profiles';
my ($produced, %versions) = (0);

# One event of each of these customers.
sub produce
{
	my @customers = @_;
	$broker->produce('rows', map {
			$versions{$_}++;
			[ length($_) % 2, $_, sprintf('{"eventId":"%d","customerId":"%s","eventType":"x","timestamp":"2026-01-01T00:00:00Z"}', ++$produced, $_) ]
	} @customers);
}

# Waits for a condition on the stream's row in stat_streams.
sub shows
{
	my ($condition, $name) = @_;
	ok($node->poll_query_until('postgres', "SELECT $condition FROM profile_stream.stat_streams"), $name)
	  or diag($node->sql('SELECT * FROM profile_stream.stat_streams'));
}

sub has_version
{
	my ($customer, $version, $name) = @_;
	ok($node->poll_query_until('postgres', "SELECT version = $version FROM $profiles WHERE customer_id = '$customer'"), $name);
}

# Everything was applied, each event once, and nothing is complained of.
sub is_whole
{
	my ($name) = @_;
	shows("state = 'running' AND error IS NULL AND held = 0 AND lag = 0 AND applied = $produced AND duplicates = 0 AND dead = 0",
		"$name: everything is applied, once");
	is($node->sql("SELECT string_agg(customer_id || ' ' || version, ',' ORDER BY customer_id) FROM $profiles"),
		join(',', map { "$_ $versions{$_}" } sort keys %versions), "$name: every customer has every event");
	$node->is_balanced('rows', $name);
}

# A session that has begun, and its process id.
sub begin
{
	my $session = $node->background_psql('postgres', on_error_stop => 1);
	$session->query_safe('BEGIN');
	return ($session, $session->query_safe('SELECT pg_backend_pid()'));
}

# A customer's row is kept by a statement; by a prepared transaction too.
sub kept_row
{
	my ($name, $statement, $customer, $prepare) = @_;
	my ($session, $pid) = begin();
	my $from = -s $node->logfile;
	my $whose = $prepare ? 'a prepared transaction' : "process $pid";

	$session->query_safe($statement);
	if ($prepare)
	{
		$session->query_safe("PREPARE TRANSACTION 'kept'");
		$session->quit;
	}
	produce($customer, 'free', $customer, 'free', $customer);
	has_version('free', $versions{free}, "$name: another customer goes on");
	shows("state = 'running' AND held = 3 AND error ~ 'customer \"$customer\" is deferred since 20.*: $whose holds its row'",
		"$name: the customer is held, and the stream says who keeps the row");
	# there are not more lines than ten a minute
	ok($node->wait_for_log(qr/defers customer "$customer": $whose holds its row/, $from), "$name: a line says so") if $name =~ /^by hand/;
	if ($prepare) { $node->sql("ROLLBACK PREPARED 'kept'"); }
	else { $session->query_safe('ROLLBACK'); $session->quit; }
	is_whole($name);
}

# A lock keeps the whole stream waiting.
sub kept_lock
{
	my ($name, $statement, $what) = @_;
	my ($session, $pid) = begin();

	$session->query_safe($statement);
	produce('free', 'other');
	shows("state = 'waiting' AND error ~ 'waits for $what.*, which process $pid has, since 20' AND hint IS NOT NULL",
		"$name: the state says what it waits for, and who has it");
	$session->query_safe('ROLLBACK');
	$session->quit;
	is_whole($name);
}

sub all_kinds
{
	my ($way) = @_;
	kept_row("$way, a row changed", "UPDATE $profiles SET phone = '1' WHERE customer_id = 'kept'", 'kept');
	kept_row("$way, a row locked", "SELECT FROM $profiles WHERE customer_id = 'kept' FOR NO KEY UPDATE", 'kept');
	kept_row("$way, a row deleted", "DELETE FROM $profiles WHERE customer_id = 'kept'", 'kept');
	kept_row("$way, a row locked twice",
		"SELECT FROM $profiles WHERE customer_id = 'kept' FOR SHARE; SAVEPOINT s; UPDATE $profiles SET phone = '1' WHERE customer_id = 'kept'", 'kept');
	kept_row("$way, a prepared transaction", "UPDATE $profiles SET phone = '1' WHERE customer_id = 'kept'", 'kept', 1);
	kept_lock("$way, a table locked as CREATE INDEX does", "LOCK TABLE $profiles IN SHARE MODE", 'RowExclusiveLock on "materialized_profiles"');
	kept_lock("$way, a row of its offsets", 'SELECT FROM profile_stream_internal.stream_offsets FOR UPDATE', '');
	kept_lock("$way, its state and a table", "SELECT FROM profile_stream_internal.stream_status FOR UPDATE; LOCK TABLE profile_stream_internal.event_id_chunks", '.*"event_id_chunks"');

	# a lock that keeps nobody from an update holds up nobody
	my ($session) = begin();
	$session->query_safe("SELECT FROM $profiles FOR KEY SHARE");
	produce('free', 'kept');
	has_version('kept', $versions{kept}, "$way: a lock of a foreign key holds up nobody");
	$session->query_safe('COMMIT');
	$session->quit;
	is_whole("$way, a foreign key");
}

$node->create_stream('rows', $broker, 'rows', customer_lock_timeout => "'100 ms'");
produce('kept', 'free', 'other');
is_whole('at first');
all_kinds('by hand');

# of a customer who is not there yet
kept_row('a row inserted', "INSERT INTO $profiles SELECT (jsonb_populate_record(p, '{\"customer_id\": \"new\"}')).* FROM $profiles p WHERE customer_id = 'free'",
	'new');

# by statements
$node->sql("CREATE FUNCTION public.nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
	"CREATE TRIGGER nothing BEFORE UPDATE ON $profiles FOR EACH ROW EXECUTE FUNCTION public.nothing()");
all_kinds('by statements');

# many at a time, by several who keep them, while the worker is ended
my ($one) = begin();
my ($two) = begin();
produce(map { "many $_" } 1 .. 300);
is_whole('many');
$one->query_safe("UPDATE $profiles SET phone = '1' WHERE customer_id ~ '^many .*[0-4]\$'");
$two->query_safe("SELECT FROM $profiles WHERE customer_id ~ '^many .*[5-7]\$' FOR UPDATE");
produce(map { "many $_" } 1 .. 300);
shows('held = 240', 'many: those of kept rows are held');
my $pid = $node->stream_pid('rows');
$node->sql("SELECT pg_terminate_backend($pid)");
ok($node->wait_stream_pid('rows', $pid), 'many: terminated, a worker comes back');
produce(map { "many $_" } 1 .. 300);
shows('held = 480', 'many: they are held again, and more');
$one->query_safe('ROLLBACK');
shows('held = 180', 'many: some are free');
$two->query_safe('COMMIT');
is_whole('many, at last');
$_->quit foreach ($one, $two);

$node->is_clean('end');
$node->stop('fast');
$broker->stop;
done_testing();

# The database refuses what the stream writes, for no fault of an event: tables that are gone or changed, revoked rights,
# a full disk, deadlocks, row locks, serialization failures, a full lock table. The stream reports it, writes no dead
# letter, and goes on by itself. PS_SEED repeats a run.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Utils;
use ProfileStream::Broker;
use ProfileStream::Node;
use Test::More;
use Time::HiRes qw(time);

plan skip_all => 'needs a Kafka (KAFKA_HOME)' unless ProfileStream::Broker::available();

my $seed = $ENV{PS_SEED} // int(rand(1_000_000));
my $parts = 18;
my $events = ProfileStream::Node::generate(
	seed => $seed,
	events => $ENV{PS_EVENTS} // 48_000,
	customers => $ENV{PS_CUSTOMERS} // 3_000,
	parts => $parts);
my @files = @{ $events->{files} };
my $broker = ProfileStream::Broker->new(topics => [ [ 'events', 4 ] ]);
my $brokers = $broker->bootstrap;
my $node = ProfileStream::Node->start_new('main', conf => "deadlock_timeout = 200ms\n");
my $tables = 'profile_stream';
my $internal = 'profile_stream_internal';
my $produced = 0;

# A hot customer of the generator, whom every file of events touches.
my $customer = 'NULL';
my $row = "UPDATE $tables.materialized_profiles SET attributes = attributes WHERE customer_id = '$customer'";

# Produces the next file of events.
sub produce_next
{
	my $file = shift @files or die 'no more events';
	$broker->produce_file('events', $file);
	$produced += () = slurp_file($file) =~ /\n/g;
}

# Waits for a state with an error that matches.
sub says
{
	my ($pattern, $name) = @_;
	ok($node->poll_query_until('postgres', "SELECT state = 'retrying' AND error ~ '$pattern' FROM $tables.stat_streams"),
		"$name: the stream says so")
	  or diag($node->sql("SELECT state, error FROM $tables.stat_streams"));
}

sub goes_on
{
	my ($name) = @_;
	my $start = time;
	ok($node->wait_taken('refused', $produced), "$name: goes on");
	ok($node->wait_state('refused', 'running'), "$name: and runs");
	note(sprintf('%s: everything applied after %.1f s', $name, time - $start));
}

# Events come while something is wrong, that is then put right. Where it concerns only some events, the others may be taken.
sub fault
{
	my ($name, $pattern, $begin, $end, $some) = @_;
	my $dead = $node->sql("SELECT count(*) FROM $tables.dead_letters");

	$node->sql(@$begin);
	produce_next();
	says($pattern, $name);
	is($node->taken('refused'), $produced - lines_of_last(), "$name: nothing is taken") unless $some;
	is($node->sql("SELECT count(*) FROM $tables.dead_letters" . ($some ? " WHERE errors::text ~ '$pattern'" : '')), $some ? 0 : $dead,
		"$name: and nothing is a dead letter");
	$node->sql(@$end);
	goes_on($name);
}

sub lines_of_last
{
	my $lines = () = slurp_file($events->{files}[ $parts - @files - 1 ]) =~ /\n/g;
	return $lines;
}

# the stream belongs to a plain role, so that it can lose rights
$node->sql(<<"END");
CREATE ROLE crm LOGIN IN ROLE profile_stream_operator;
CREATE SERVER bank FOREIGN DATA WRAPPER profile_stream_kafka OPTIONS (bootstrap_servers '$brokers');
GRANT USAGE ON FOREIGN SERVER bank TO crm;
SET ROLE crm;
SELECT $tables.create_stream('refused', server => 'bank', topic => 'events');
END
produce_next();
goes_on('at first');

# tables that are not as they were; a view keeps the columns from being changed
my $view = $node->sql("SELECT pg_get_viewdef('$internal.event_ids')");
my @drop_view = ("ALTER EXTENSION profile_stream DROP VIEW $internal.event_ids", "DROP VIEW $internal.event_ids");
my @make_view = ("CREATE VIEW $internal.event_ids AS $view", "ALTER EXTENSION profile_stream ADD VIEW $internal.event_ids");
fault('a table renamed', 'event_id_chunks does not exist',
	["ALTER TABLE $internal.event_id_chunks RENAME TO gone"],
	["ALTER TABLE $internal.gone RENAME TO event_id_chunks"]);
fault('a table dropped, and made anew', 'event_id_chunks does not exist',
	[ @drop_view, "CREATE TABLE public.kept (LIKE $internal.event_id_chunks INCLUDING ALL)",
		"INSERT INTO public.kept SELECT * FROM $internal.event_id_chunks",
		"ALTER EXTENSION profile_stream DROP TABLE $internal.event_id_chunks", "DROP TABLE $internal.event_id_chunks" ],
	[ 'BEGIN', 'ALTER TABLE public.kept RENAME TO event_id_chunks', "ALTER TABLE public.event_id_chunks SET SCHEMA $internal",
		"ALTER EXTENSION profile_stream ADD TABLE $internal.event_id_chunks", 'COMMIT' ]);
fault('a column of another type', '"sealed_to" is of type text|text [<>] timestamp',
	["ALTER TABLE $internal.event_id_chunks ALTER sealed_to TYPE text"],
	["ALTER TABLE $internal.event_id_chunks ALTER sealed_to TYPE timestamptz USING sealed_to::timestamptz"], 1);
fault('a column of a smaller type', '"sealed_to" is of type integer|integer [<>] timestamp',
	["ALTER TABLE $internal.event_id_chunks ALTER sealed_to TYPE int USING extract(epoch FROM sealed_to)::int"],
	["ALTER TABLE $internal.event_id_chunks ALTER sealed_to TYPE timestamptz USING to_timestamp(sealed_to)"], 1);
fault('a column that went', 'column.*sealed_to.*does not exist',
	[ "CREATE TABLE public.kept AS SELECT * FROM $internal.event_id_chunks", "ALTER TABLE $internal.event_id_chunks DROP sealed_to" ],
	# at once: an id without a time counts as expired, and the worker tries again in between
	[ 'BEGIN', "ALTER TABLE $internal.event_id_chunks ADD sealed_to timestamptz", "UPDATE $internal.event_id_chunks e SET sealed_to = k.sealed_to"
		  . " FROM public.kept k WHERE k.customer_id = e.customer_id AND k.chunk_no = e.chunk_no", 'DROP TABLE public.kept', 'COMMIT' ], 1);
$node->sql(@make_view);

# a row that somebody damaged
$node->sql("CREATE TABLE public.kept AS SELECT window_state FROM $tables.materialized_profiles WHERE customer_id = '$customer'",
	"UPDATE $tables.materialized_profiles SET window_state = '\\x00ff' WHERE customer_id = '$customer'");
produce_next();
says("window state of customer \"$customer\" is damaged", 'a damaged row');
is($node->sql("SELECT count(*) FROM $tables.dead_letters WHERE errors::text ~ 'damaged'"), '0', 'a damaged row: no event is blamed for it');
$node->sql("UPDATE $tables.materialized_profiles p SET window_state = k.window_state FROM public.kept k WHERE p.customer_id = '$customer'", 'DROP TABLE public.kept');
goes_on('a damaged row');

$node->sql("CREATE TABLE public.kept AS SELECT event_ids FROM $tables.materialized_profiles WHERE customer_id = '$customer'",
	"UPDATE $tables.materialized_profiles SET event_ids = '\\x00ff' WHERE customer_id = '$customer'");
produce_next();
says("event ids of customer \"$customer\" are damaged", 'damaged event ids');
$node->sql("UPDATE $tables.materialized_profiles p SET event_ids = k.event_ids FROM public.kept k WHERE p.customer_id = '$customer'", 'DROP TABLE public.kept');
goes_on('damaged event ids');

# rights
fault('a table of another role', "table $internal.event_id_chunks is not the extension.s own",
	["ALTER TABLE $internal.event_id_chunks OWNER TO crm"], ["ALTER TABLE $internal.event_id_chunks OWNER TO CURRENT_USER"]);
fault('all rights revoked', 'permission denied for role "crm" to run a stream', ['REVOKE profile_stream_operator FROM crm'], ['GRANT profile_stream_operator TO crm']);
fault('the right on the server revoked', 'permission denied for foreign server bank',
	['REVOKE USAGE ON FOREIGN SERVER bank FROM crm'], ['GRANT USAGE ON FOREIGN SERVER bank TO crm']);

SKIP:
{
	skip 'built without failpoints', 1 unless $node->has_failpoints;

	# a full disk, at the last moment
	$node->set_failpoint('before_commit:disk_full');
	produce_next();
	says('failpoint "before_commit"', 'a full disk');
	$node->set_failpoint('');
	goes_on('a full disk');
}

# who keeps a row may still want its customer's lock: nobody stands in a queue for the row, so that there is no deadlock
my $session = $node->background_psql('postgres', on_error_stop => 0);
$session->query_safe("BEGIN; $row");
produce_next();
ok($node->poll_query_until('postgres', "SELECT held > 0 FROM $tables.stat_streams"), 'a row that is kept: its customer is held');
$session->query_safe("SELECT $tables.lock_customer('$customer')");
$session->query_safe('COMMIT');
goes_on('a row that is kept');

SKIP:
{
	skip 'built without failpoints', 8 unless $node->has_failpoints;

	# somebody changes a row without the customer's lock, between its reading and its writing, at each isolation level, and
	# where the worker writes by statements, which see another version
	my $version = "UPDATE $tables.materialized_profiles SET version = version + 1000000 WHERE customer_id = '$customer'";
	foreach ([ 'read committed', $row ], [ 'repeatable read', $row ], [ 'serializable', $row ], [ 'read committed', $version, 'off' ])
	{
		my ($level, $change, $direct) = @$_;
		my $from = -s $node->logfile;
		$node->sql("ALTER SYSTEM SET default_transaction_isolation = '$level'");
		$node->sql("ALTER SYSTEM SET profile_stream.direct_access = '$direct'") if $direct;
		$node->set_failpoint('after_fold:sleep=200');
		$session->query("SET default_transaction_isolation = 'read committed'");	# after what was cancelled last
		$session->query_until(qr/changes/, "\\echo changes\nDO \$\$ BEGIN LOOP $change; COMMIT; PERFORM pg_sleep(0.02); END LOOP; END \$\$;\n");
		sleep 1;    # settings are read between turns of the worker's loop, which wait for messages
		produce_next();
		ok($node->wait_for_log(qr/changed without the customer's lock|could not serialize access/, $from),
			"a row changed, $level: the batch is given up");
		$node->sql("SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE query ~ 'LOOP' AND pid <> pg_backend_pid()");
		$node->set_failpoint('');
		$session->query_until(qr/ended/, "\\echo ended\n");
		$node->sql("UPDATE $tables.materialized_profiles SET version = version % 1000000 WHERE customer_id = '$customer'");
		goes_on("a row changed, $level");
	}
	$node->sql('ALTER SYSTEM RESET profile_stream.direct_access');
}
$node->sql('ALTER SYSTEM RESET default_transaction_isolation');
$node->reload;
$session->quit;

produce_next() while @files;
goes_on('at last');
$node->equals_model('refused', $events, "faults of the database, seed $seed");
$node->is_clean('end');
$node->stop('fast');

# a lock table that another session fills: the batch is cut until it fits what is left
my $small = ProfileStream::Node->start_new('small', conf => "max_locks_per_transaction = 40\nmax_connections = 40\n");
my $filler = $small->background_psql('postgres');
my $left = 120;
$filler->query_safe(<<"END");
DO \$\$
BEGIN
	FOR i IN 1 .. 1000000 LOOP
		PERFORM pg_advisory_lock(0, i);
	END LOOP;
EXCEPTION WHEN out_of_memory THEN
	PERFORM pg_advisory_unlock(0, i) FROM generate_series(1, $left) i;
END \$\$
END
my $from = -s $small->logfile;
$small->create_stream('small', $broker, 'events');
ok($small->wait_for_log(qr/out of shared memory/, $from), 'a full lock table: a batch does not fit');
ok($small->wait_taken('small', 2_000), 'a full lock table: the stream goes on with smaller ones');
# a session that comes while a transaction takes what is left finds no room to begin, and comes again
ok($small->poll_query_until('postgres', "SELECT count(*) > 1000 FROM pg_locks WHERE locktype = 'advisory' AND classid = 0 AND objsubid = 2"),
	'a full lock table: while it is full');
ok($small->poll_query_until('postgres', 'SELECT count(*) > 0 FROM profile_stream.profiles'), 'a full lock table: others can work');
ok($small->wait_taken('small', $produced), 'a full lock table: everything is taken');
$filler->quit;
$small->equals_model('small', $events, 'a full lock table');

# what was cut grows again
$from = -s $small->logfile;
$small->safe_psql('postgres', "SELECT profile_stream.alter_stream('small', batch_size => 10)");
foreach my $file (@{ $events->{files} })
{
	last if slurp_file($small->logfile, $from) =~ /customers in a transaction again/;
	$broker->produce_file('events', $file);
	$produced += () = slurp_file($file) =~ /\n/g;
	$small->safe_psql('postgres', "SELECT profile_stream.wait_for_stream('small')");
}
ok($small->wait_for_log(qr/stream "small" applies up to \d+ customers in a transaction again/, $from),
	'a full lock table: transactions grow again');
$small->is_clean('end');
$small->stop('fast');
$broker->stop;
done_testing();

# The keys of a database. A dump does not contain its secret: a restored database makes one of its own. It does contain
# the key of event ids, with which the restored database finds the ids of the dump. So it is with a subscription to all tables.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Utils;
use ProfileStream::Node;
use Test::More;

my $node = ProfileStream::Node->start_new('main', init => { allows_streaming => 'logical' });

my $secret = 'SELECT md5(key), profile_stream.notification_channel() FROM profile_stream_internal.database_secret';
my $key = q(SELECT md5(string_agg(key::text, ',')), profile_stream_internal.event_id_hash('e') FROM profile_stream_internal.event_id_keys);
my $events = q(SELECT array_agg(jsonb_build_object('eventId', i, 'customerId', 'c' || i % 10, 'eventType', 'seen', 'timestamp', '2026-01-01')) FROM generate_series(1, 1000) i);
my $apply = "SELECT string_agg(DISTINCT outcome, ' ') FROM unnest(profile_stream.apply_events(($events))) outcome";
my $known = q(SELECT count(*) FROM profile_stream_internal.event_ids e JOIN generate_series(1, 1000) i
	ON e.customer_id = 'c' || i % 10 AND e.hash = profile_stream_internal.event_id_hash(i::text));

# databases whose extension is older than that of the original: the key that comes counts, whatever its age
foreach my $dbname (qw(older subscriber))
{
	$node->sql("CREATE DATABASE $dbname");
	$node->safe_psql($dbname, 'CREATE EXTENSION profile_stream CASCADE; UPDATE profile_stream_internal.event_id_keys SET made_at = \'2020-01-01\'');
}
is($node->sql($apply), 'applied', 'events are applied');
is($node->sql($known), 1000, 'their ids are known by their hashes');
is($node->sql('SELECT count(*) FROM profile_stream_internal.event_id_chunks'), 30, 'some of them are in sealed chunks');
my $original = $node->sql($secret);
my $original_key = $node->sql($key);

# dumped and restored
my $dump = PostgreSQL::Test::Utils::tempdir() . '/dump';
$node->command_ok([ 'pg_dump', '--file', $dump, $node->connstr('postgres') ], 'dumped');
unlike(slurp_file($dump), qr/^COPY profile_stream(_internal)?\.database_secret/m, 'without the secret');
like(slurp_file($dump), qr/^COPY profile_stream_internal\.event_id_keys/m, 'with the key of event ids');
$node->command_ok([ 'pg_dump', '--data-only', '--file', "$dump.data", $node->connstr('postgres') ], 'dumped without the schema');
$node->sql('CREATE DATABASE restored');
foreach my $dbname (qw(restored older))
{
	# a session that has used the key which the restore replaces
	my $session = $node->background_psql($dbname);
	$session->query_safe("SELECT profile_stream_internal.event_id_hash('e')") if $dbname eq 'older';
	$node->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr($dbname), '-f', $dbname eq 'older' ? "$dump.data" : $dump ], "$dbname: restored");
	my @of_original = split /\|/, $original;
	my @of_restored = split /\|/, $node->safe_psql($dbname, $secret);
	isnt($of_restored[$_], $of_original[$_], "$dbname: another one: $_") foreach 0 .. 1;
	is($node->safe_psql($dbname, $key), $original_key, "$dbname: the key of event ids is that of the original");
	is($node->safe_psql($dbname, $known), 1000, "$dbname: ids are known by their hashes");
	is($session->query_safe($apply), 'duplicate', "$dbname: every event id is known");
	$session->quit;
}
is($node->sql($apply), 'duplicate', 'as in the original');

# a second dump has one key too
$node->command_ok([ 'pg_dump', '--file', "$dump.2", $node->connstr('older') ], 'dumped again');
$node->sql('CREATE DATABASE again');
$node->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('again'), '-f', "$dump.2" ], 'restored again');
is($node->safe_psql('again', $apply), 'duplicate', 'restored again: every event id is known');

# a subscription to everything that the original has
my $own = $node->safe_psql('subscriber', $secret);
$node->sql("CREATE PUBLICATION everything FOR ALL TABLES; SELECT pg_create_logical_replication_slot('everything', 'pgoutput')");
$node->safe_psql('subscriber', "CREATE SUBSCRIPTION everything CONNECTION '" . $node->connstr . " dbname=postgres' PUBLICATION everything WITH (create_slot = false, slot_name = 'everything')");
ok($node->poll_query_until('subscriber', "SELECT count(*) > 10 AND bool_and(srsubstate = 'r') FROM pg_subscription_rel"), 'subscribed');
is($node->safe_psql('subscriber', $secret), $own, 'subscribed: the secret is what it was');
is($node->safe_psql('subscriber', $key), $original_key, 'subscribed: the key of event ids came with them');
is($node->safe_psql('subscriber', $known), 1000, 'subscribed: ids are known by their hashes');
$node->safe_psql('subscriber', 'ALTER SUBSCRIPTION everything DISABLE; ALTER SUBSCRIPTION everything SET (slot_name = NONE)');
$node->safe_psql('subscriber', 'DROP SUBSCRIPTION everything');
$node->sql("SELECT pg_drop_replication_slot('everything')");

# what is not the extension's is not taken for it
$node->sql('CREATE DATABASE fake');
$node->safe_psql('fake', "CREATE SCHEMA profile_stream_internal; CREATE TABLE profile_stream_internal.event_id_keys (made_at timestamptz, key bytea); INSERT INTO profile_stream_internal.event_id_keys VALUES (now(), '0123456789abcdef');
	CREATE FUNCTION public.hash(text, int) RETURNS bytea AS 'profile_stream', 'ps_event_id_hash_sql' LANGUAGE c STRICT");
my ($rc, $out, $err) = $node->psql('fake', "SELECT public.hash('e', 0)");
like($err, qr/ERROR:  table profile_stream_internal.event_id_keys does not exist, or does not belong to the extension/, 'a key that somebody else made is not taken');

# the extension made again in one session
is($node->safe_psql('template1', "CREATE EXTENSION profile_stream CASCADE; CREATE TEMP TABLE keys AS SELECT profile_stream_internal.event_id_hash('e') AS key;
	DROP EXTENSION profile_stream; CREATE EXTENSION profile_stream; SELECT key = profile_stream_internal.event_id_hash('e') FROM keys"), 'f', 'made again it has another one')
  or diag('the session kept the old one');
$node->safe_psql('template1', 'DROP EXTENSION profile_stream');

$node->is_clean('end');
$node->stop;
done_testing();

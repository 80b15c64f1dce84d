# The database's secret. A dump does not contain it. A restored database makes its own and finds its event ids with it.
# Neither a restore nor a subscription to all tables changes it.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Utils;
use ProfileStream::Node;
use Test::More;

my $node = ProfileStream::Node->start_new('main', init => { allows_streaming => 'logical' });

my $secret = 'SELECT md5(secret), profile_stream.notification_channel(), profile_stream_internal.event_key(\'c\', \'e\') FROM profile_stream_internal.database_secret';
my $events = q(SELECT array_agg(jsonb_build_object('eventId', i, 'customerId', 'c' || i % 10, 'eventType', 'seen', 'timestamp', '2026-01-01')) FROM generate_series(1, 1000) i);
my $apply = "SELECT string_agg(DISTINCT outcome, ' ') FROM unnest(profile_stream.apply_events(($events))) outcome";
my $by_index = <<'END';
SET enable_seqscan = off; SET enable_bitmapscan = off;
SELECT count(*) FROM profile_stream_internal.event_ids e, LATERAL (SELECT 1 FROM profile_stream_internal.event_ids x
	WHERE profile_stream_internal.event_key(x.customer_id, x.event_id) = profile_stream_internal.event_key(e.customer_id, e.event_id) AND x.event_id = e.event_id) f
END
is($node->sql($apply), 'applied', 'events are applied');
is($node->sql($by_index), 1000, 'the index has each');
my $original = $node->sql($secret);

# dumped and restored
my $dump = PostgreSQL::Test::Utils::tempdir() . '/dump';
$node->command_ok([ 'pg_dump', '--file', $dump, $node->connstr('postgres') ], 'dumped');
unlike(slurp_file($dump), qr/^COPY profile_stream\.database_secret/m, 'without the secret');
$node->sql('CREATE DATABASE restored');
$node->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('restored'), '-f', $dump ], 'restored');
my $restored = $node->safe_psql('restored', $secret);
my @of_original = split /\|/, $original;
my @of_restored = split /\|/, $restored;
isnt($of_restored[$_], $of_original[$_], "another one: $_") foreach 0 .. 2;
is($node->safe_psql('restored', $by_index), 1000, 'restored: the index has each');
is($node->safe_psql('restored', $apply), 'duplicate', 'restored: every event id is known');
is($node->sql($apply), 'duplicate', 'as in the original');

# a subscription to everything that the original has
$node->sql('CREATE DATABASE subscriber');
$node->safe_psql('subscriber', 'CREATE EXTENSION profile_stream CASCADE');
my $own = $node->safe_psql('subscriber', $secret);
$node->sql("CREATE PUBLICATION everything FOR ALL TABLES; SELECT pg_create_logical_replication_slot('everything', 'pgoutput')");
$node->safe_psql('subscriber', "CREATE SUBSCRIPTION everything CONNECTION '" . $node->connstr . " dbname=postgres' PUBLICATION everything WITH (create_slot = false, slot_name = 'everything')");
ok($node->poll_query_until('subscriber', "SELECT count(*) > 10 AND bool_and(srsubstate = 'r') FROM pg_subscription_rel"), 'subscribed');
is($node->safe_psql('subscriber', $secret), $own, 'subscribed: the secret is what it was');
is($node->safe_psql('subscriber', $by_index), 1000, 'subscribed: the index has each');
$node->safe_psql('subscriber', 'ALTER SUBSCRIPTION everything DISABLE; ALTER SUBSCRIPTION everything SET (slot_name = NONE)');
$node->safe_psql('subscriber', 'DROP SUBSCRIPTION everything');
$node->sql("SELECT pg_drop_replication_slot('everything')");

# what is not the extension's is not taken for it
$node->sql('CREATE DATABASE fake');
$node->safe_psql('fake', "CREATE SCHEMA profile_stream_internal; CREATE TABLE profile_stream_internal.database_secret (is_only boolean, secret bytea); INSERT INTO profile_stream_internal.database_secret VALUES (true, sha256('known'));
	CREATE FUNCTION public.key(text, text) RETURNS bigint AS 'profile_stream', 'ps_event_key_sql' LANGUAGE c STRICT");
my ($rc, $out, $err) = $node->psql('fake', "SELECT public.key('c', 'e')");
like($err, qr/ERROR:  table profile_stream_internal.database_secret does not exist, or does not belong to the extension/, 'a secret that somebody else made is not taken');

# the extension made again in one session
is($node->safe_psql('template1', "CREATE EXTENSION profile_stream CASCADE; CREATE TEMP TABLE keys AS SELECT profile_stream_internal.event_key('c', 'e') AS key;
	DROP EXTENSION profile_stream; CREATE EXTENSION profile_stream; SELECT key = profile_stream_internal.event_key('c', 'e') FROM keys"), 'f', 'made again it has another one')
  or diag('the session kept the old one');
$node->safe_psql('template1', 'DROP EXTENSION profile_stream');

$node->is_clean('end');
$node->stop;
done_testing();

# Events of before in a file and in another database: a backfill reads them by file_fdw and postgres_fdw, with the rights of
# a role that is no superuser, goes on after an error of the other database, and a rebuild reads them again.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use ProfileStream::Broker;
use ProfileStream::Node qw(events);
use Test::More;

my $broker = ProfileStream::Broker->new(mock => 1, topics => [ [ 'events', 1 ] ]);
my $node = ProfileStream::Node->start_new('main');
my $other = PostgreSQL::Test::Cluster->new('crm');
$other->init;
# only a password that was asked for lets a role that is no superuser connect
unlink($other->data_dir . '/pg_hba.conf');
$other->append_conf('pg_hba.conf', "local all postgres trust\nlocal all all scram-sha-256\n");
$other->start;
my $profiles = "SELECT count(*), sum(version), sum(total_balance), min(updated_at) FROM profile_stream.materialized_profiles WHERE customer_id ~";

sub backfill
{
	my ($name, $query, $batch) = @_;
	return $node->psql('postgres', "SET ROLE filler; CALL profile_stream.backfill('crm', \$q\$$query\$q\$, batch => $batch, name => '$name')");
}

$node->sql('CREATE ROLE filler LOGIN IN ROLE profile_stream_operator, pg_read_server_files', 'CREATE EXTENSION file_fdw', 'CREATE EXTENSION postgres_fdw',
	"CREATE SERVER kafka FOREIGN DATA WRAPPER profile_stream_kafka OPTIONS (bootstrap_servers '" . $broker->bootstrap . "')", 'GRANT USAGE ON FOREIGN SERVER kafka TO filler');
$node->sql("SET ROLE filler; SELECT profile_stream.create_stream('crm', server => 'kafka', topic => 'events')");
my $at = 0;
$broker->produce('events', events(\$at, 20, customer => 'live'));
ok($node->wait_taken('crm', 20), 'the stream runs');

# a file; a line that is no event is a dead letter, one that file_fdw cannot read ends the call
my $dir = PostgreSQL::Test::Utils::tempdir('files');
my $file = "$dir/old.csv";

sub write_lines
{
	open(my $handle, '>', $file) or die $!;
	print $handle map { "$_\n" } @_;
	close($handle);
	chmod(0644, $file);
}

my @lines = map { sprintf('f%d,file%d,account.opened,2025-01-01T00:%02d:%02dZ,"{""initialBalance"": %d}"', $_, $_ % 7, $_ / 60, $_ % 60, $_) } reverse 1 .. 500;
write_lines(@lines[ 0 .. 249 ], 'f501,file1,account.opened,2025-01-01T01:00:00Z,not json', @lines[ 250 .. 499 ]);
$node->sql('CREATE SERVER files FOREIGN DATA WRAPPER file_fdw',
	"CREATE FOREIGN TABLE old_file (event_id text, customer_id text, event_type text, event_time timestamptz, payload jsonb) SERVER files OPTIONS (filename '$file', format 'csv')",
	'GRANT SELECT ON old_file TO filler');
my ($rc, undef, $err) = backfill('file', 'SELECT * FROM public.old_file', 100);
isnt($rc, 0, 'a line that cannot be read ends the call');
like($err, qr/invalid input syntax for type json.*foreign table|COPY old_file, line 251/s, 'and is named');
is($node->sql("SELECT state FROM profile_stream.stat_backfills WHERE name = 'file'"), 'failed', 'stat_backfills says so');
write_lines(@lines, 'f501,,account.opened,2025-01-01T01:00:00Z,');
is((backfill('file', 'SELECT * FROM public.old_file', 100))[0], 0, 'a mended file');
is($node->sql("SELECT rows_done, applied, dead FROM profile_stream.stat_backfills WHERE name = 'file'"), '501|500|1', 'each line counts once');
is($node->sql("$profiles '^file'"), '7|500|125250|2025-01-01 00:08:14+00', 'the profiles have them');

# another database, which goes away in the middle
$other->safe_psql('postgres', "CREATE ROLE reader LOGIN PASSWORD 'sesame'; CREATE TABLE old_events AS SELECT 'd' || n AS event_id, 'db' || n % 11 AS customer_id, 'account.opened' AS event_type,
	'2025-02-01Z'::timestamptz + n * interval '1 minute' AS event_time, jsonb_build_object('initialBalance', n) AS payload FROM generate_series(1, 2000) n;
	GRANT SELECT ON old_events TO reader");
$node->sql("CREATE SERVER crm FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '" . $other->host . "', port '" . $other->port . "', dbname 'postgres', fetch_size '100')",
	"CREATE USER MAPPING FOR filler SERVER crm OPTIONS (user 'reader', password 'sesame')", 'GRANT USAGE ON FOREIGN SERVER crm TO filler',
	"CREATE FOREIGN TABLE old_rows (event_id text, customer_id text, event_type text, event_time timestamptz, payload jsonb) SERVER crm OPTIONS (table_name 'old_events')", 'GRANT SELECT ON old_rows TO filler');
$other->stop;
($rc, undef, $err) = backfill('database', 'SELECT * FROM public.old_rows', 300);
isnt($rc, 0, 'a database that is away ends the call');
like($err, qr/could not connect to server "crm"/, 'and is named');
unlike($err . $node->sql('SELECT error FROM profile_stream.stat_backfills'), qr/sesame/, 'without its password');
$other->start;
$node->sql(q(CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF NEW.version > 100 AND NEW.customer_id ~ '^db' THEN RAISE insufficient_privilege; END IF; RETURN NEW; END $$),
	'CREATE TRIGGER refuse BEFORE INSERT OR UPDATE ON profile_stream.materialized_profiles FOR EACH ROW EXECUTE FUNCTION refuse()');
isnt((backfill('database', 'SELECT * FROM public.old_rows', 300))[0], 0, 'an error of ours in the middle');
cmp_ok($node->sql("SELECT rows_done FROM profile_stream.stat_backfills WHERE name = 'database'"), '>=', 300, 'some batches are committed');
$node->sql('DROP FUNCTION refuse CASCADE');
is((backfill('database', 'SELECT * FROM public.old_rows', 300))[0], 0, 'it goes on');
is($node->sql("SELECT rows_done, applied, duplicates FROM profile_stream.stat_backfills WHERE name = 'database'"), '2000|2000|0', 'each row counts once');
is($node->sql("$profiles '^db'"), '11|2000|2001000|2025-02-02 09:10:00+00', 'the profiles have them');

# a rebuild reads them again, and waits for a database that is away
$other->stop;
$node->sql("SELECT profile_stream.rebuild('crm')");
ok($node->poll_query_until('postgres', "SELECT state = 'retrying' AND error ~ 'could not connect to server' FROM profile_stream.stat_rebuilds"), 'a rebuild says that the database is away')
  or diag($node->sql('SELECT * FROM profile_stream.stat_rebuilds'));
$other->start;
ok($node->wait_rebuild('ready'), 'and goes on when it is there');
is($node->sql("SELECT * FROM profile_stream.rebuild_diff('crm')"), '', 'it comes to the same profiles');
is($node->sql("SELECT profile_stream.swap_rebuild('crm')"), '0', 'and is swapped in');

$node->is_clean('end');
$node->stop('fast');
$other->stop;
$broker->stop;
done_testing();

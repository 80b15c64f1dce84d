# The dbt project of bi/dbt, run by dbt as an analyst: its models and tests, its freshness, and that a second load takes what
# changed and drops who was forgotten.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Utils;
use ProfileStream::Node;
use Test::More;

chomp(my $python = `/usr/bin/python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])'`);
my $dbt = ($ENV{KAFKA_HOME} // '') . "/dbt/$python/bin/dbt";
plan skip_all => 'no dbt: scripts/install-deps.sh brings it' unless -x $dbt;

my $node = ProfileStream::Node->start_new('main', conf => "track_commit_timestamp = on\n");
my $dir = PostgreSQL::Test::Utils::tempdir('dbt');
system_or_bail('cp', '-r', "$FindBin::RealBin/../../bi/dbt", "$dir/project");

# Runs dbt; returns its exit status and what it printed.
sub dbt
{
	local @ENV{qw(PGHOST PGPORT PGUSER PGDATABASE PGPASSWORD HOME DO_NOT_TRACK NO_COLOR)} = ('127.0.0.1', $node->port, 'bi', 'postgres', 'secret', $dir, 1, 1);
	my ($out, $err) = ('', '');
	my $ok = IPC::Run::run([ $dbt, @_, '--project-dir', "$dir/project", '--profiles-dir', "$dir/project" ], '>', \$out, '2>', \$err);
	return ($ok, $out . $err);
}

$node->append_conf('postgresql.conf', "listen_addresses = '127.0.0.1'");
$node->append_conf('pg_hba.conf', 'host all bi 127.0.0.1/32 scram-sha-256');
$node->restart;
$node->sql("CREATE ROLE bi LOGIN PASSWORD 'secret'", 'GRANT profile_stream_bi TO bi', 'CREATE SCHEMA reporting AUTHORIZATION bi');
$node->sql(<<'END');
SELECT profile_stream.apply_events(array_agg(jsonb_build_object('eventId', i, 'customerId', 'c' || i % 20, 'eventType', 'transaction.completed',
	'timestamp', now() - i * interval '6 hours', 'payload', jsonb_build_object('amount', i)) ORDER BY i)) FROM generate_series(1, 100) i;
CALL profile_stream.refresh_scores();
END

my ($ok, $out) = dbt('build');
ok($ok, 'models are made, and tests pass') || diag($out);
like($out, qr/PASS=17 WARN=0 ERROR=0 SKIP=0/, 'all of them');
is($node->sql('SELECT count(*), sum(events) FROM reporting.customers'), '20|100', 'every customer is loaded');
is($node->sql("SELECT sum(value), sum(transactions), count(DISTINCT day), min(value) FROM reporting.value_by_day"), '5050.0000|100|91|0.0000', 'days have their values, and those without any a 0');
is($node->sql('SELECT sum(customers), sum(share) FROM reporting.segments_by_day'), '20|1.0000', 'segments are shares of all');
($ok, $out) = dbt('source', 'freshness');
ok($ok && $out =~ /PASS freshness of profile_stream.bi_profiles/, 'the source is fresh') || diag($out);

$node->sql("SELECT profile_stream.apply_event(jsonb_build_object('eventId', 'more', 'customerId', 'c' || i, 'eventType', 'noop', 'timestamp', '2026-01-01')) FROM generate_series(0, 1) i",
	"SELECT profile_stream.forget_customer('c2')");
($ok, $out) = dbt('run', '--select', 'customers');
ok($ok && $out =~ /INSERT 0 2/, 'a second load takes two') || diag($out);
is($node->sql("SELECT count(*), sum(events), count(DISTINCT loaded_at), count(*) FILTER (WHERE customer_id = 'c2') FROM reporting.customers"), '19|97|2|0', 'what changed is there, and who was forgotten is not');

# tools that ask the catalog: each relation that they may read and each column says what it is
is($node->sql(<<'END'), '0', 'there is a description for each');
SELECT count(*) FROM information_schema.columns c WHERE c.table_schema = 'profile_stream'
	AND (col_description(format('%I.%I', c.table_schema, c.table_name)::regclass, c.ordinal_position) IS NULL OR obj_description(format('%I.%I', c.table_schema, c.table_name)::regclass) IS NULL)
END
$node->stop('fast');
done_testing();

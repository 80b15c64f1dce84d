# Direct access to the tables honours what an administrator added to them: triggers that skip a row, publications of all
# tables, and extensions that check rights.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Utils;
use ProfileStream::Broker;
use ProfileStream::Node qw(events);
use Test::More;

my $broker = ProfileStream::Broker->new(mock => !ProfileStream::Broker::available(), topics => [ [ 'events', 2 ] ]);
my $node = ProfileStream::Node->start_new('main', conf => "wal_level = logical\n");

# a trigger that skips the rows of one customer costs that customer's events, and nobody else's
$node->sql(<<'END');
CREATE FUNCTION skip() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN CASE WHEN NEW.customer_id <> 'c7' THEN NEW END; END $$;
CREATE TRIGGER skip BEFORE INSERT OR UPDATE ON profile_stream.materialized_profiles FOR EACH ROW EXECUTE FUNCTION skip();
END
$broker->produce('events', events(0, 40, customers => 10, partitions => 2));
$node->create_stream('crm', $broker, 'events', dead_letter_pause_ratio => 1);
ok($node->wait_taken('crm', 40), 'the stream goes on');
is($node->stream_state('crm'), 'running', 'it runs');
is($node->sql("SELECT string_agg(DISTINCT customer_id || ': ' || errors[1], ',') || count(*) FROM profile_stream.dead_letters"),
	'c7: Processing error: 1 of 1 rows of table materialized_profiles were not written4', 'the skipped events are dead letters that say why');
is($node->sql('SELECT count(*), sum(version) FROM profile_stream.materialized_profiles'), '9|36', 'the others are applied');
$node->sql('DROP TRIGGER skip ON profile_stream.materialized_profiles');

# a publication of all tables keeps nothing from being updated or deleted
$node->sql('CREATE PUBLICATION everything FOR ALL TABLES');
$broker->produce('events', events(36, 24, customers => 10, partitions => 2));
ok($node->wait_taken('crm', 64), 'with a publication of all tables the stream goes on');
is($node->sql("SELECT applied || ' ' || duplicates FROM profile_stream.stat_streams"), '57 3', 'it updates, and drops what was applied');
is($node->sql("SELECT applied FROM profile_stream.retry_dead_letters()"), '3', 'dead letters are retried');
$node->sql("SELECT profile_stream.pause_stream('crm')");
ok($node->wait_state('crm', 'paused'), 'paused');
$node->poll_query_until('postgres', q(SELECT worker_pid IS NULL FROM profile_stream.stat_streams));
$node->sql(q(SELECT profile_stream.seek_stream('crm', '{"0": 30}')));
is($node->sql('SELECT count(*) FROM profile_stream_internal.stream_gaps'), '1', 'a seek is a gap');
$node->sql("SELECT profile_stream.forget_customer('c1')");
$node->sql("SELECT profile_stream.drop_stream('crm')");
is($node->sql('SELECT count(*) FROM profile_stream_internal.stream_gaps'), '0', 'the stream is dropped with its gaps');

# without any of these no statement writes profiles
sub statements
{
	my ($setting, $id) = @_;
	my ($rc, $out, $err) = $node->psql('postgres', "LOAD 'auto_explain'; SET auto_explain.log_min_duration = 0;"
		  . " SET auto_explain.log_nested_statements = on; SET client_min_messages = log; SET profile_stream.direct_access = $setting;"
		  . qq(SELECT profile_stream.apply_event('{"eventId": "$id", "customerId": "c0", "eventType": "seen", "timestamp": "2026-01-01"}')));
	return $err;
}
$node->sql('DROP PUBLICATION everything');
like(statements('off', 's1'), qr/UPDATE profile_stream.materialized_profiles/, 'without direct access a statement writes');
unlike(statements('on', 's2'), qr/profile_stream.(?:materialized_profiles|event_ids)/, 'with it none reads or writes profiles and event ids');

# whoever checks rights or audits through the executor's hook is asked
my $dir = PostgreSQL::Test::Utils::tempdir('hook');
append_to_file("$dir/observer.c", <<'END');
#include "postgres.h"
#include "executor/executor.h"
#include "fmgr.h"
PG_MODULE_MAGIC;
void _PG_init(void);
#if PG_VERSION_NUM >= 160000
static bool check(List *tables, List *permissions, bool raises)
#else
static bool check(List *tables, bool raises)
#endif
{
	ereport(NOTICE, (errmsg("rights are checked")));
	return true;
}
void _PG_init(void) { ExecutorCheckPerms_hook = check; }
END
my @include = ('-I', $node->config_data('--includedir-server'));
system_or_bail('cc', '-shared', '-fPIC', @include, '-o', "$dir/observer.so", "$dir/observer.c");
my $event = q(SELECT profile_stream.apply_event('{"eventId": "%s", "customerId": "c0", "eventType": "seen", "timestamp": "2026-01-01"}'));

# How often it is asked for two events, with a setting.
sub checks
{
	my ($setting, @ids) = @_;
	my ($rc, $out, $err) = $node->psql('postgres',
		"LOAD '$dir/observer.so'; SET profile_stream.direct_access = $setting; " . join('', map { sprintf($event, $_) . ';' } @ids));
	my @found = $err =~ /rights are checked/g;
	return scalar @found;
}
my $by_statements = checks('off', 'h1', 'h2');
is(checks('on', 'h3', 'h4'), $by_statements, "an extension that checks rights sees each of $by_statements statements");

$node->is_clean('end');
$node->stop('fast');
$broker->stop;
done_testing();

# A database of an older release with a stream, under the library of this one: nothing is applied and nothing breaks until
# ALTER EXTENSION UPDATE, and then the stream goes on exactly. test/upgrade has the state that a release left.
#
# PS_RELEASE_STATE=FILE writes the state of this version for the tests of later ones: see Releasing in CONTRIBUTING.md.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Utils;
use ProfileStream::Broker;
use ProfileStream::Node qw(event);
use Test::More;

my $releases = "$FindBin::RealBin/../upgrade";
my $broker = ProfileStream::Broker->new(
	mock => !ProfileStream::Broker::available(),
	topics => [ [ 'events', 2 ] ]);

# Definitions of every kind that a release had.
my $definitions = q{
CREATE FUNCTION public.visits(profile jsonb, event jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT jsonb_build_object('phone', event ->> 'eventId') $$;
CREATE FUNCTION public.raised(event jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT event -> 'payload' $$;
SELECT profile_stream.map_attribute('loyalty', 'tier', '$.tier'), profile_stream.map_attribute('loyalty', 'points', '$.points', 'add', 'numeric'),
	profile_stream.create_metric('points', 'loyalty', '400 days', '$.points', 'sum'),
	profile_stream.create_metric('tiers', 'loyalty', '400 days', '$.tier', 'distinct'),
	profile_stream.create_metric('spent', 'transaction.completed', NULL, '$.amount', 'sum', period => 'lifetime'),
	profile_stream.register_handler('visited', 'public.visits(jsonb,jsonb)'), profile_stream.register_upcaster('loyalty', 1, 'public.raised(jsonb)'),
	profile_stream.track_history('{total_balance,attributes.tier}', '3650 days'),
	profile_stream.create_segment('gold', 'attributes ->> ''tier'' = ''gold''', 'live'), profile_stream.create_segment('rich', 'total_balance > 100', 'batch'),
	profile_stream.set_score_settings(margin => 0.5), profile_stream.forget_customer('nobody', block => true),
	profile_stream.seed_profile('seeded', '{"firstName": "Ada", "preferredChannel": "web"}', '2026-11-01', 'seed')};

# Events from number $from to $to: of each handler, of own types, duplicates, late ones and dead letters.
sub messages
{
	my ($from, $to) = @_;
	return map {
		my $n = $_;
		my $customer = 'c' . $n % 3;
		my $kind = $n % 9;
		my %more = (timestamp => sprintf('2026-11-%02dT%02d:%02d:00Z', 1 + $n / 24 % 28, $n % 24, $n % 60));
		my $value =
		    $kind == 0 ? event("e$n", $customer, %more, type => 'account.opened', payload => qq({"initialBalance": @{[ $n % 50 ]}}))
		  : $kind == 1 ? event("e$n", $customer, %more, type => 'customer.profile.updated', payload => qq({"firstName": "F$n", "email": "e$n\@example.org"}))
		  : $kind == 2 ? event("e$n", $customer, %more, type => 'loyalty', payload => qq({"tier": "@{[ $n % 2 ? 'gold' : 'tin' ]}", "points": $n}))
		  : $kind == 3 ? event('e' . ($n - 3), 'c' . ($n - 3) % 3, %more)
		  : $kind == 4 ? event("e$n", $customer, %more, type => 'visited')
		  : $kind == 5 ? event("e$n", $n % 2 ? 'nobody' : $customer, %more, type => 'session.started', payload => '{"channel": "web"}')
		  : $kind == 6 && $n % 20 == 0 ? qq({"eventId": "e$n", "customerId": ")
		  : event("e$n", $customer, %more, type => 'transaction.completed', payload => qq({"amount": @{[ $n % 31 ]}}));
		[ $n % 3 % 2, $customer, $value ]
	} $from .. $to;
}

# Runs and commits statements one by one, as a user does.
sub define
{
	my ($node, $dbname) = @_;
	$node->safe_psql($dbname, $definitions);
	$node->safe_psql($dbname, "SELECT profile_stream.create_stream('crm', bootstrap_servers => '" . $broker->bootstrap . "', topic => 'events',
		dedupe_retention => '3650 days', group_id => '$dbname')");
}

my ($half, $all) = (900, 1_100);

# Writes everything that the tables of the extension hold, as a script that fills those of the same version.
sub write_state
{
	my ($node, $file) = @_;
	my $output = '';
	my $tables = q{SELECT c.oid::regclass || ' (' || (SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum) FROM pg_attribute a
			WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '') || ')'
		FROM pg_class c JOIN pg_depend d ON d.objid = c.oid AND d.classid = 'pg_class'::regclass AND d.deptype = 'e'
		WHERE c.relkind IN ('r', 'p') ORDER BY c.oid};
	foreach my $table (split(/\n/, $node->sql($tables)))
	{
		my ($name, $columns) = split(/ /, $table, 2);
		my $rows = $node->sql("COPY (SELECT " . ($columns =~ s/^\(|\)$//gr) . " FROM $name) TO STDOUT");
		$output .= "COPY $name $columns FROM stdin;\n$rows\n\\.\n" if $rows ne '';
	}
	$output .= $node->sql(q{SELECT format('SELECT setval(%L, %s);', s.schemaname || '.' || s.sequencename, s.last_value) FROM pg_sequences s
		WHERE s.schemaname LIKE 'profile_stream%' AND s.last_value IS NOT NULL ORDER BY 1}) . "\n";
	append_to_file($file, $output);
}

# Fills the tables of a database in which the extension has the version of the state, beside all triggers.
sub read_state
{
	my ($node, $file) = @_;
	my $tables = q{SELECT c.oid::regclass FROM pg_class c WHERE c.relnamespace::regnamespace::text LIKE 'profile_stream%' AND c.relkind = 'r'};
	my $always = $node->sql(q{SELECT string_agg(format('ALTER TABLE %s ENABLE ALWAYS TRIGGER %I;', t.tgrelid::regclass, t.tgname), E'\n') FROM pg_trigger t
		WHERE t.tgenabled = 'A' AND NOT t.tgisinternal AND t.tgrelid IN (SELECT oid FROM pg_class WHERE relnamespace::regnamespace::text LIKE 'profile_stream%')});
	my @tables = split(/\n/, $node->sql($tables));
	my $script = slurp_file($file);
	my @days = $script =~ /^\S+\t(\d{4}-\d\d-\d\d) [^\t]*\t\d+\t(?:event|score)\t/mg;
	my %days = map { $_ => 1 } @days;
	$node->sql($definitions =~ s/SELECT profile_stream.*//sr);
	$node->sql('BEGIN',
		(map { "ALTER TABLE $_ DISABLE TRIGGER ALL" } @tables),
		(map { "DELETE FROM $_" } @tables),
		(map { "SELECT profile_stream_internal.make_history_part('$_', date '$_' + 1)" } sort keys %days),
		$script,
		# where this server and its broker are
		"UPDATE profile_stream.streams SET bootstrap_servers = '" . $broker->bootstrap . "'",
		'UPDATE profile_stream_internal.stream_status SET database = (SELECT oid FROM pg_database WHERE datname = current_database())',
		'UPDATE profile_stream_internal.stream_offsets SET check_offset = NULL, check_timestamp = NULL, check_hash = NULL',
		(map { "ALTER TABLE $_ ENABLE TRIGGER ALL" } @tables),
		$always, 'COMMIT');
}

# What a database holds, but for what is another in each database: keys, times, names of channels.
sub contents
{
	my ($node, $dbname) = @_;
	return $node->safe_psql($dbname, q{SET timezone = 'UTC';
		SELECT (to_jsonb(p) - '{event_ids,updated_at,window_state,version_at,scored_at}'::text[])::text FROM profile_stream.materialized_profiles p ORDER BY 1;
		SELECT p.customer_id, m.name, profile_stream.metric_value(p.customer_id, m.name) FROM profile_stream.materialized_profiles p, unnest('{points,tiers,spent}'::text[]) m (name) ORDER BY 1, 2;
		SELECT partition, applied, duplicates, dead, late, blocked, next_offset FROM profile_stream_internal.stream_offsets ORDER BY 1;
		SELECT partition, kafka_offset, kind, errors FROM profile_stream.dead_letters ORDER BY 1, 2;
		SELECT segment, customer_id FROM profile_stream.segment_members ORDER BY 1, 2;
		SELECT customer_id, changed_at, version, kind, old FROM profile_stream_internal.profile_history ORDER BY 1, 2, 3, 4;
		SELECT partition, difference, wrong_chunks FROM profile_stream.reconcile('crm') ORDER BY 1});
}

my $node = ProfileStream::Node->init_new('main', conf => 'profile_stream.dead_letter_retention = 0');
$node->start;

if ($ENV{PS_RELEASE_STATE})
{
	$node->sql('CREATE EXTENSION profile_stream');
	define($node, 'postgres');
	$broker->produce('events', messages(1, $half));
	ok($node->wait_taken('crm', $half), 'the stream has read the events');
	ok($node->wait_state('crm', 'running'), 'and runs');
	$node->stop('fast');
	$node->append_conf('postgresql.conf', 'profile_stream.enabled = off');
	$node->start;
	write_state($node, $ENV{PS_RELEASE_STATE});
	done_testing();
	exit 0;
}

# a library, its extension and its roles: what a release leaves that is updated, and what a new one makes
my $roles = q{SELECT string_agg(concat_ws(' ', r.rolname, r.rolcanlogin, r.rolinherit, r.rolbypassrls, (SELECT array_agg(m.member::regrole::text ORDER BY 1) FROM pg_auth_members m WHERE m.roleid = r.oid)), ', ' ORDER BY 1)
	FROM pg_roles r WHERE r.rolname LIKE 'profile\_stream\_%'};
my $version = '0.1.0';
$node->sql("CREATE EXTENSION profile_stream VERSION '$version'");
read_state($node, "$releases/state-$version.sql");
$broker->produce('events', messages(1, $half));
my $profiles = $node->sql('SELECT md5(string_agg(p::text, chr(10) ORDER BY customer_id)) FROM profile_stream.materialized_profiles p');
is($node->sql('SELECT count(*) FROM profile_stream.materialized_profiles'), '4', "there is the state of $version");

# between the restart and ALTER EXTENSION
my $from = -s $node->logfile;
$node->restart;
$broker->produce('events', messages($half + 1, $all));
ok($node->wait_state('crm', 'retrying'), 'the stream waits');
is($node->sql(q{SELECT error ~ 'is of version 0.1.0 in this database, and its library of version', hint, since > now() - interval '10 minutes', next_attempt_at IS NOT NULL
	FROM profile_stream.stat_streams}), 't|Run ALTER EXTENSION profile_stream UPDATE in this database.|t|t', 'and says why, what to do and since when');
foreach my $view (split(/\n/, $node->sql(q{SELECT relname FROM pg_class WHERE relnamespace = 'profile_stream'::regnamespace AND relkind = 'v' AND relname ~ '^stat_' ORDER BY 1})))
{
	my ($rc, undef, $error) = $node->psql('postgres', "SELECT * FROM profile_stream.$view");
	is($rc, 0, "$view can be read") or diag($error);
}
$node->sql("UPDATE profile_stream_internal.stream_status SET since = since - interval '2 minutes'");
like($node->sql('SELECT string_agg(problem, chr(10)) FROM profile_stream.health()'), qr/is retrying since/, 'health() tells it');
$node->fails_like($_, qr/is of version 0\.1\.0 in this database, and its library of version .*Run ALTER EXTENSION/s, "refused: $_")
  foreach "SELECT profile_stream.apply_event('{}')", "SELECT profile_stream.get_profile('c1')", 'SELECT profile_stream.start_streams()', "SELECT profile_stream.pause_stream('crm')",
  "SELECT profile_stream.retry_dead_letters()", "SELECT profile_stream.reconcile('crm')", "CALL profile_stream.refresh_scores()";
is($node->sql('SELECT md5(string_agg(p::text, chr(10) ORDER BY customer_id)) FROM profile_stream.materialized_profiles p'), $profiles, 'nothing is applied');
is(() = slurp_file($node->logfile, $from) =~ /streams do not run: extension profile_stream is of version/g, 1, 'the log says it once');

# the update, with a stream that wants to run
$node->sql('ALTER EXTENSION profile_stream UPDATE');
ok($node->wait_taken('crm', $all), 'the stream goes on by itself');
ok($node->wait_state('crm', 'running'), 'and says so');
my $updated_roles = $node->sql($roles);
$node->safe_psql('postgres', 'CREATE DATABASE fresh');
$node->safe_psql('fresh', 'CREATE EXTENSION profile_stream');
is($updated_roles, $node->sql($roles), 'an update makes the roles that a new installation does');
define($node, 'fresh');
$node->poll_query_until('fresh', "SELECT sum(next_offset - start_offset) = $all FROM profile_stream_internal.stream_offsets") or die 'the new database did not read it all';
$node->safe_psql($_, 'CALL profile_stream.refresh_segments()') foreach 'postgres', 'fresh';
is(contents($node, 'postgres'), contents($node, 'fresh'), 'everything is as in a new database that read the whole topic');

# there is no way back
$node->fails_like("ALTER EXTENSION profile_stream UPDATE TO '$version'", qr/has no update path from version "[\d.]+" to version "0\.1\.0"/, 'a downgrade is refused');

# a script refuses a library that is older than it
my $folder = $node->config_data('--sharedir') . '/extension';
my $now = $node->sql("SELECT extversion FROM pg_extension WHERE extname = 'profile_stream'");
my $script = "$folder/profile_stream--$now--later.sql";
append_to_file($script, slurp_file("$folder/profile_stream--$version--0.2.0.sql") =~ s/'\{0,2,0\}'/'{98,0,0}'/r);
$node->fails_like("ALTER EXTENSION profile_stream UPDATE TO 'later'", qr/the server still runs the library of profile_stream \Q$now\E.*Restart the server/s, 'before the restart');
unlink($script);

# the library of an older release under newer objects
$node->sql("UPDATE pg_extension SET extversion = '99.0.0' WHERE extname = 'profile_stream'", 'CREATE FUNCTION look() RETURNS void LANGUAGE sql AS $$ $$');
ok($node->wait_state('crm', 'retrying'), 'an older library with newer objects: the stream waits');
is($node->sql('SELECT hint FROM profile_stream.stat_streams'), 'The server still runs the library that it began with: restart it.', 'and says what to do');

done_testing();

# A server with a running stream becomes one of a newer PostgreSQL by pg_upgrade, and the stream goes on exactly.
# PS_OLD_BINDIR are the programs of the older PostgreSQL; scripts/pg_upgrade.sh runs this test.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use Cwd qw(abs_path);
use File::Basename qw(dirname);
use PostgreSQL::Test::Utils;
use ProfileStream::Broker;
use ProfileStream::Node;
use Test::More;

my $old_bindir = $ENV{PS_OLD_BINDIR} // die 'set PS_OLD_BINDIR';
my $new_bindir = `pg_config --bindir`;
chomp($new_bindir);

# What must be the same before and after, as text.
my $state = q{SELECT string_agg(t::text, E'\n' ORDER BY t::text) FROM (
	SELECT p::text FROM profile_stream.materialized_profiles p
	UNION ALL SELECT o.applied || ' ' || o.duplicates || ' ' || o.dead || ' ' || o.next_offset FROM profile_stream_internal.stream_offsets o
	UNION ALL SELECT d.kafka_offset || ' ' || array_to_string(d.errors, ', ') FROM profile_stream_internal.dead_letters d
	UNION ALL SELECT m.segment || ' ' || m.customer_id FROM profile_stream.segment_members m
	UNION ALL SELECT h::text FROM profile_stream_internal.profile_history h
	UNION ALL SELECT c::text FROM profile_stream_internal.window_chunks c
	UNION ALL SELECT e::text FROM profile_stream_internal.event_id_chunks e) t};

my $events = ProfileStream::Node::generate(seed => $ENV{PS_SEED} // 15, events => 8_000, customers => 300, parts => 4);
my $broker = ProfileStream::Broker->new(topics => [ [ 'events', 4 ] ]);
my $old = ProfileStream::Node->start_new('old', install_path => dirname($old_bindir));

$broker->produce_file('events', $events->{files}[0]);
$old->sql("SELECT profile_stream.create_segment('rich', 'total_balance > 1000')", "SELECT profile_stream.track_history('{total_balance}', '366 days')");
$old->create_stream('crm', $broker, 'events');
ok($old->wait_taken('crm', 2_000), 'the stream runs on ' . $old->sql('SHOW server_version'));
$broker->produce_file('events', $events->{files}[1]);
ok($old->wait_taken('crm', 4_000), 'and goes on');
$old->stop('fast');
$old->start;
ok($old->wait_state('crm', 'running'), 'it runs');
my $before = $old->sql($state);
# columns of views have this option in newer minor releases; pg_upgrade cannot take it to one that does not know it
$old->sql("UPDATE pg_attribute SET attoptions = NULL WHERE attoptions::text LIKE '%pg\\_attver=%'") if system("grep -q pg_attver $new_bindir/postgres") != 0;
my $extension = $old->sql("SELECT extversion FROM pg_extension WHERE extname = 'profile_stream'");
$old->stop('fast');

# PostgreSQL 18 makes checksums unless it is told not to
my ($major) = `$new_bindir/postgres --version` =~ /(\d+)/;
my $new = ProfileStream::Node->init_new('new', init => { extra => $major >= 18 ? ['--no-data-checksums'] : [] });
chdir(PostgreSQL::Test::Utils::tempdir()) or die $!;
command_ok([ 'pg_upgrade', '--no-sync', '-U', 'postgres', '-b', $old_bindir, '-B', $new_bindir, '-d', $old->data_dir, '-D', $new->data_dir,
		'-s', $new->host, '-p', $old->port, '-P', $new->port ], 'pg_upgrade with the library preloaded');
die 'it failed' unless Test::More->builder->is_passing;
$new->start;
ok($new->wait_state('crm', 'running'), 'the stream runs by itself on ' . $new->sql('SHOW server_version'));
is($new->sql("SELECT extversion FROM pg_extension WHERE extname = 'profile_stream'"), $extension, 'of the same version');
is($new->sql($state), $before, 'profiles, windows, event ids, dead letters, segments, history and offsets are as they were');
$broker->produce_file('events', $events->{files}[$_]) foreach 0, 2, 3;
ok($new->wait_taken('crm', 10_000), 'it goes on');
cmp_ok($new->sql('SELECT duplicates FROM profile_stream.stat_streams'), '>=', 1_000, 'and knows the ids of events that the older server applied');
is($new->sql("SELECT count(*) FROM profile_stream.reconcile('crm') WHERE difference <> 0 OR wrong_chunks <> 0"), '0', 'reconcile() finds no difference');
is($new->sql("SELECT state FROM profile_stream.stat_streams"), 'running', 'it still runs');

# the same from a new database is the same
$new->safe_psql('postgres', 'CREATE DATABASE fresh');
$new->safe_psql('fresh', 'CREATE EXTENSION profile_stream');
$new->safe_psql('fresh', "SELECT profile_stream.create_segment('rich', 'total_balance > 1000')");
$new->safe_psql('fresh', "SELECT profile_stream.create_stream('crm', bootstrap_servers => '" . $broker->bootstrap . "', topic => 'events', group_id => 'fresh')");
$new->poll_query_until('fresh', 'SELECT sum(next_offset - start_offset) = 10000 FROM profile_stream_internal.stream_offsets') or die 'the new database did not read it all';
my $profiles = q{SELECT string_agg((to_jsonb(p) - '{event_ids,updated_at,window_state}'::text[])::text, E'\n' ORDER BY p.customer_id) FROM profile_stream.materialized_profiles p};
is($new->sql($profiles), $new->safe_psql('fresh', $profiles), 'the profiles are those of a new database that read the whole topic');
my $members = q{SELECT string_agg(customer_id, ' ' ORDER BY customer_id) FROM profile_stream.segment_members};
is($new->sql($members), $new->safe_psql('fresh', $members), 'and so are the members of segments');

done_testing();

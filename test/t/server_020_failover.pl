# A standby is promoted behind its primary, a server is recovered to a moment in the middle of a stream, pg_rewind makes
# the old primary a standby, pg_upgrade upgrades. Each server goes on by itself from its own offsets and equals the model.
# PS_SEED repeats a run.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Utils;
use ProfileStream::Broker;
use ProfileStream::Node;
use Test::More;

plan skip_all => 'needs a Kafka (KAFKA_HOME)' unless ProfileStream::Broker::available();

my $seed = $ENV{PS_SEED} // int(rand(1_000_000));
my $all = ProfileStream::Node::generate(
	seed => $seed,
	events => $ENV{PS_EVENTS} // 50_000,
	customers => $ENV{PS_CUSTOMERS} // 5_000,
	parts => 6);
my @files = @{ $all->{files} };
my @sizes = map { my $lines = () = slurp_file($_) =~ /\n/g; $lines } @files;
my $first = { %$all, files => [ @files[ 0 .. 3 ] ], dir => PostgreSQL::Test::Utils::tempdir('first') };
my $before_upgrade = { %$all, files => [ @files[ 0 .. 4 ] ], dir => PostgreSQL::Test::Utils::tempdir('second') };
my $broker = ProfileStream::Broker->new(topics => [ [ 'events', 4 ] ]);
my $conf = "max_wal_senders = 4\nwal_level = replica\nwal_log_hints = on\nwal_keep_size = 512MB\n";
my $primary = ProfileStream::Node->start_new('primary', init => { allows_streaming => 1, has_archiving => 1 }, conf => $conf);
my $produced = 0;

# A server that is made of another one's files.
sub node_of
{
	my ($name) = @_;
	my $node = ProfileStream::Node->new($name);
	$node->{expected_signals} = 0;
	return $node;
}

sub produced { return $produced += shift @sizes; }

$broker->produce_file('events', $files[0]);
$primary->create_stream('crm', $broker, 'events');
ok($primary->wait_taken('crm', produced()), 'the stream runs');
$primary->backup('b');
my $standby = node_of('standby');
$standby->init_from_backup($primary, 'b', has_streaming => 1);
$standby->append_conf('postgresql.conf', 'archive_mode = off');    # one archive has one writer
$standby->start;

# a moment in the middle, to come back to
my $producer = $broker->start_producing('events', $files[1]);
ok($primary->wait_taken('crm', $produced + 1), 'events flow');
$primary->safe_psql('postgres', "SELECT pg_create_restore_point('middle')");
$broker->finish_producing($producer);
ok($primary->wait_taken('crm', produced()), 'and go on');
$primary->wait_for_catchup($standby, 'replay');
is($standby->taken('crm'), $produced, 'the standby has everything so far');

# the standby loses its primary, which goes on for a while and dies while events flow
$standby->append_conf('postgresql.conf', "primary_conninfo = ''");
$standby->reload;
ok($primary->poll_query_until('postgres', 'SELECT count(*) = 0 FROM pg_stat_replication'), 'the standby is cut off');
$broker->produce_file('events', $files[2]);
ok($primary->wait_taken('crm', produced()), 'the primary goes on');
my $segment = $primary->safe_psql('postgres', 'SELECT pg_walfile_name(pg_switch_wal())');
ok($primary->poll_query_until('postgres', "SELECT last_archived_wal >= '$segment' FROM pg_stat_archiver"), 'and archives');
$producer = $broker->start_producing('events', $files[3]);
ok($primary->wait_taken('crm', $produced + 1), 'events flow');
$primary->stop('immediate');
my $lost = $produced - $standby->taken('crm');
cmp_ok($lost, '>', 0, 'the standby lacks events that the primary had applied');
note("$lost events are behind");
$standby->promote;
$broker->finish_producing($producer);
ok($standby->wait_taken('crm', produced()), 'promoted, it reads them again by itself');
$standby->equals_model('crm', $first, "promoted, seed $seed");
$standby->is_clean('promoted');
$standby->stop('fast');

# the backup, recovered to the middle
my $recovered = node_of('recovered');
$recovered->init_from_backup($primary, 'b', has_restoring => 1, standby => 0);
$recovered->append_conf('postgresql.conf', "recovery_target_name = 'middle'\nrecovery_target_action = 'promote'");
$recovered->start;
ok($recovered->wait_for_log(qr/recovery stopping at restore point "middle"/), 'recovered to the middle of the stream');
ok($recovered->wait_taken('crm', $produced), 'recovered, it goes on by itself');
$recovered->equals_model('crm', $first, "recovered, seed $seed");
$recovered->is_clean('recovered');
$recovered->stop('fast');

# the old primary, which had gone on, made a standby of the new one and promoted in its turn
my $settings = $primary->data_dir . '/postgresql.conf';
my $kept = slurp_file($settings);
append_to_file("$all->{dir}/kept.conf", $kept);
command_ok(
	[   'pg_rewind', '--no-sync', '--source-pgdata', $standby->data_dir, '--target-pgdata', $primary->data_dir,
		'--config-file', "$all->{dir}/kept.conf" ],
	'pg_rewind');
unlink($settings);
append_to_file($settings, $kept . "archive_mode = off\n");
$standby->start;
$primary->enable_streaming($standby);
$primary->start;
$standby->wait_for_catchup($primary, 'replay');
is($primary->worker_pid, '', 'rewound, as a standby it has no worker');
$standby->stop('fast');
$primary->promote;
$broker->produce_file('events', $files[4]);
ok($primary->wait_taken('crm', produced()), 'rewound and promoted, it goes on by itself');
$primary->equals_model('crm', $before_upgrade, "rewound, seed $seed");
$primary->is_clean('rewound');
$primary->stop('fast');

# a cluster upgraded, here to the same version; workers do not run meanwhile
my $upgraded = node_of('upgraded');
$upgraded->init;
$upgraded->append_conf('postgresql.conf', "shared_preload_libraries = 'profile_stream'\nmax_worker_processes = 16\nlog_min_messages = info\nprofile_stream.cluster = 'test'\n");
$broker->produce_file('events', $files[5]);
my $bindir = $recovered->config_data('--bindir');
chdir(PostgreSQL::Test::Utils::tempdir('upgrade')) or die $!;
command_ok(
	[   'pg_upgrade', '--no-sync', '-d', $recovered->data_dir, '-D', $upgraded->data_dir, '-b', $bindir, '-B', $bindir,
		'-s', $recovered->host, '-p', $recovered->port, '-P', $upgraded->port ],
	'pg_upgrade');
$upgraded->start;
ok($upgraded->wait_taken('crm', produced()), 'upgraded, it goes on by itself');
is($produced, $all->{events}, 'every event was produced');
$upgraded->equals_model('crm', $all, "upgraded, seed $seed");
$upgraded->is_clean('upgraded');
$upgraded->stop('fast');
$broker->stop;
done_testing();

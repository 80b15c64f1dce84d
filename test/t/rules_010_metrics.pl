# Attribute maps and metrics over many random events equal an independent model at several moments. After a change of the
# definitions a rebuild gives what they would have given from the start. PS_EVENTS, PS_SEED and PS_UNTIL change the run.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use IPC::Run ();
use POSIX qw(strftime);
use PostgreSQL::Test::Utils;
use ProfileStream::Broker;
use ProfileStream::Node;
use Test::More;

plan skip_all => 'needs a Kafka (KAFKA_HOME)' unless ProfileStream::Broker::available();

my $seed = $ENV{PS_SEED} // 91;
my $events = $ENV{PS_EVENTS} // 6_000;
my $customers = int($events / 240);
my $now = time - 120;
my $until = $ENV{PS_UNTIL} // strftime('%Y-%m-%dT%H:%M:00Z', gmtime($now));
my @moments = ($until, map { strftime('%Y-%m-%dT%H:%M:00Z', gmtime($now - $_ * 86400)) } 0.5, 10, 150);
my $model = ProfileStream::Broker::tool('rules_model.py');
my $dir = PostgreSQL::Test::Utils::tempdir('rules');
my @files = map { "$dir/events.$_" } 0 .. 2;
my $broker = ProfileStream::Broker->new(topics => [ [ 'events', 4 ] ]);
my $node = ProfileStream::Node->start_new('main');

$node->append_conf('postgresql.conf', 'profile_stream.sample_retention = -1');	# moments of long ago are asked for
$node->reload;

# Has the model write SQL of definitions, and runs it.
sub define
{
	my ($name) = @_;
	my $statements = '';
	IPC::Run::run([ $model, 'define', $name ], '>', \$statements) or die 'no definitions';
	$node->sql($statements);
}

sub equals_model
{
	my ($definitions, $nfiles, $name) = @_;
	my $output = '';
	IPC::Run::run([ $model, 'check', '--definitions', $definitions, (map { ('--as-of', $_) } @moments), (map { ('--file', $_) } @files[ 0 .. $nfiles - 1 ]),
			'--', '-h', $node->host, '-p', $node->port, '-d', 'postgres' ], '>', \$output, '2>&1');
	my ($summary) = $output =~ /(.*\n\d+ passed, \d+ failed)\s*\z/;
	note($summary // $output);
	return ok(defined $summary && $summary =~ /[1-9]\d* passed, 0 failed/, "$name: equals the model") || diag($output);
}

# all events in three files: before the stream, while it runs, after the rebuild
note("seed $seed, $events events until $until");
IPC::Run::run([ ProfileStream::Broker::tool('rules_events.py'), $seed, $events, $customers, $until ], '>', "$dir/all") or die 'could not generate events';
my @lines = split(/(?<=\n)/, slurp_file("$dir/all"));
foreach my $part (0 .. 2)
{
	open(my $handle, '>', $files[$part]) or die $!;
	print $handle @lines[ int($part * @lines / 3) .. int(($part + 1) * @lines / 3) - 1 ];
	close($handle) or die $!;
}
my $two_thirds = int(2 * @lines / 3);

define('first');
$broker->produce_file('events', $files[0]);
$node->create_stream('shop', $broker, 'events');
$broker->produce_file('events', $files[1]);
ok($node->wait_taken('shop', $two_thirds), 'two files are taken');
equals_model('first', 2, 'first definitions');
is($node->sql(q(SELECT count(DISTINCT metric) FROM profile_stream_internal.window_chunks WHERE metric LIKE 'series_%')),
	$node->sql('SELECT count(*) FROM profile_stream_internal.metric_series WHERE NOT is_lifetime'), 'samples of metrics are sealed in chunks, but for those of a lifetime');
cmp_ok($node->sql('SELECT count(DISTINCT series_id) FROM profile_stream_internal.metrics'), '<', $node->sql('SELECT count(*) FROM profile_stream_internal.metrics'), 'metrics share series');
$node->is_balanced('shop', 'first definitions');

# other definitions: what was dropped is taken back by a rebuild, what is new has history after it
define('second');
$node->sql(q(SELECT profile_stream.create_metric('late_1d', 'page.viewed', '1 day', backfill => 'shop')));
ok($node->wait_rebuild('ready'), 'create_metric() with backfill begins a rebuild, which gets ready');
my $silver = $node->sql(q(SELECT count(DISTINCT customer_id) FROM profile_stream.rebuild_diff('shop', 1000000) WHERE fields -> 'metrics.silver_30d' ->> 0 = '0'));
is($node->sql(q(SELECT count(*) FROM profile_stream.rebuild_diff('shop', 1000000), jsonb_object_keys(fields) k WHERE k IN ('metrics.orders_1h', 'metrics.spent_60d'))), '0',
	'of those that stay as they are nothing');
$node->sql(q(SELECT profile_stream.swap_rebuild('shop')));
is($node->sql(q(SELECT count(*) FROM profile_stream.materialized_profiles p WHERE profile_stream.get_profile(p.customer_id) -> 'metrics' -> 'silver_30d' > '0')),
	$silver, 'rebuild_diff() told who would have which metric');
is($node->sql(q(SELECT count(*) > 0 FROM profile_stream.materialized_profiles p WHERE profile_stream.get_profile(p.customer_id) -> 'metrics' -> 'late_1d' > '0')),
	't', 'it has history');
equals_model('second', 2, 'second definitions, rebuilt');
is($node->sql(q(SELECT count(*) FROM profile_stream_internal.window_chunks c WHERE c.metric LIKE 'series_%'
	AND NOT EXISTS (SELECT FROM profile_stream_internal.metric_series s WHERE 'series_' || s.series_id = c.metric))), '0', 'no samples are left of what was dropped');
$node->sql(q(SELECT profile_stream.drop_metric('late_1d')));

$broker->produce_file('events', $files[2]);
ok($node->wait_taken('shop', scalar @lines), 'the third file is taken');
equals_model('second', 3, 'second definitions, and events after them');
$node->is_balanced('shop', 'second definitions');

# a dump has definitions and samples, and goes on with numbers of series that were not used before
$node->sql('CREATE DATABASE copy');
$node->command_ok([ 'pg_dump', '-Fc', '-f', "$dir/dump", '-h', $node->host, '-p', $node->port, 'postgres' ], 'pg_dump');
$node->command_ok([ 'pg_restore', '-e', '-d', 'copy', '-h', $node->host, '-p', $node->port, "$dir/dump" ], 'pg_restore');
my $documents = "SELECT count(*), sum(hashtextextended(profile_stream.get_profile(customer_id, '$until')::text, 0)) FROM profile_stream.materialized_profiles";
is($node->safe_psql('copy', $documents), $node->sql($documents), 'a restored database has the same documents');
is( $node->safe_psql('copy', q(SELECT profile_stream.create_metric('another', 'another', '1 day');
	SELECT profile_stream_internal.metric_series('another') <> ALL (SELECT metric FROM profile_stream_internal.window_chunks))) =~ s/^\n//r,
	't', 'and a new metric none of the old samples');
is($node->safe_psql('copy', q(SELECT max(series_id) FILTER (WHERE event_types = '{another}') = max(series_id) FROM profile_stream_internal.metric_series)), 't', 'but a later number');

# the worker itself removes chunks that no metric reads any more, as soon as it starts and then once an hour
my $series = $node->sql(q(SELECT profile_stream_internal.metric_series('spent_60d')));
cmp_ok($node->sql("SELECT count(*) FROM profile_stream_internal.window_chunks WHERE metric = '$series'"), '>', 0, 'a series has chunks');
$node->sql("SELECT profile_stream.drop_metric(name) FROM profile_stream_internal.metrics WHERE 'series_' || series_id = '$series'");
$node->sql("SELECT profile_stream.pause_stream('shop')");
ok($node->wait_stopped('shop'), 'the worker stops');
$node->sql("SELECT profile_stream.resume_stream('shop')");
ok($node->poll_query_until('postgres', "SELECT count(*) = 0 FROM profile_stream_internal.window_chunks WHERE metric = '$series'"), 'dropped, they go');

$node->is_clean('end');
$node->stop('fast');
$broker->stop;
done_testing();

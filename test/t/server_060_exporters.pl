# The files of monitoring/ against the programs that they are for: both exporters give the metrics, each alert fires by what
# it is about, and the SQL of each panel runs, all as a role of pg_monitor.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use HTTP::Tiny;
use IPC::Run ();
use JSON::PP ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use ProfileStream::Broker;
use ProfileStream::Node qw(events);
use Test::More;
use Time::HiRes qw(usleep);

my $files = "$FindBin::RealBin/../../monitoring";
my $programs = ($ENV{KAFKA_HOME} // '') . '/exporters/usr/bin';
plan skip_all => 'no exporters: scripts/install-deps.sh brings them' unless -x "$programs/prometheus-postgres-exporter";

my $broker = ProfileStream::Broker->new(mock => !ProfileStream::Broker::available(), topics => [ [ 'events', 2 ] ]);
my $node = ProfileStream::Node->start_new('main');
my $dir = PostgreSQL::Test::Utils::tempdir('exporters');

$node->sql('CREATE ROLE exporter LOGIN', 'GRANT pg_monitor TO exporter',
	"SELECT profile_stream.create_stream('crm', bootstrap_servers => '" . $broker->bootstrap . "', topic => 'events', redis => '127.0.0.1:1')");
$broker->produce('events', events(1, 20, partitions => 2), [ 0, 'x', 'no event' ]);
ok($node->poll_query_until('postgres', 'SELECT applied = 20 AND dead = 1 FROM profile_stream.stat_streams'), 'there is something to see');
ok($node->wait_sink('crm', "state = 'retrying'", 'redis'), 'and something to complain about');

# tables that have grown by 1 GB in a day
ok($node->poll_query_until('postgres', 'SELECT count(*) > 20 FROM profile_stream_internal.storage_samples'), 'upkeep takes the sizes of tables');
$node->sql("INSERT INTO profile_stream_internal.storage_samples SELECT schema, \"table\", now() - interval '1 day', table_bytes + index_bytes - 1000000000
	FROM profile_stream.stat_storage WHERE \"table\" = 'dead_letters' AND schema = 'profile_stream_internal'");

# two problems of one subject, which are one metric
$node->sql(q{UPDATE profile_stream_internal.sink_status SET refused = 1;
	INSERT INTO profile_stream.stream_log (logged_at, stream, what, part, from_state, to_state) SELECT now(), 'crm', 'sink', 'redis', 'idle', 'retrying' FROM generate_series(1, 5)});
is($node->sql(q{SELECT count(*), count(DISTINCT problem) FROM profile_stream.health() WHERE status = 'warning' AND subject = 'sink "redis" of stream "crm"'}), '2|2', 'a sink has two problems');

# What a program serves once it has a metric.
sub scrape
{
	my ($port, $pattern) = @_;
	my $text = '';

	for (1 .. 300)
	{
		$text = HTTP::Tiny->new(timeout => 10)->get("http://127.0.0.1:$port/metrics")->{content};
		last if $text =~ $pattern;
		usleep(200_000);
	}
	return $text;
}

sub has
{
	my ($text, @patterns) = @_;
	like($text, $_, "has $_") foreach @patterns;
	unlike($text, qr/no event|"c\d+"/, 'and no personal data');
}

my $port = PostgreSQL::Test::Cluster::get_free_port();
my $where = 'host=' . $node->host . ' port=' . $node->port;
my $log = '';
{
	local $ENV{DATA_SOURCE_NAME} = "$where user=exporter dbname=postgres sslmode=disable";
	my $exporter = IPC::Run::start([ "$programs/prometheus-postgres-exporter", "--web.listen-address=127.0.0.1:$port",
			"--extend.query-path=$files/postgres_exporter.yaml", '--disable-default-metrics', '--disable-settings-metrics' ], '&>', \$log);
	has(scrape($port, qr/^profile_stream_storage_table_bytes/m),
		qr/^profile_stream_stream_running\{.*stream="crm".*\} 1$/m,
		qr/^profile_stream_stream_applied_total\{.*stream="crm".*\} 20$/m,
		qr/^profile_stream_stream_dead_letters_total\{.*\} 1$/m,
		qr/^profile_stream_stream_lag\{.*\} 0$/m,
		qr/^profile_stream_partition_lag\{.*partition="1".*topic="events".*\} 0$/m,
		qr/^profile_stream_sink_running\{.*sink="redis".*\} 0$/m,
		qr/^profile_stream_stream_lag_seconds\{.*\} 0$/m,
		qr/^profile_stream_stream_latency_p95\{.*\} \d/m,
		qr/^profile_stream_stream_restarts_total\{.*\} 0$/m,
		qr/^profile_stream_sink_lag_seconds\{.*sink="redis".*\} \d*\.?\d*[1-9]/m,
		qr/^profile_stream_sink_errors_total\{.*sink="redis".*\} 1$/m,
		qr/^profile_stream_worker_memory_bytes\{.*does="worker".*\} [1-9]/m,
		qr/^profile_stream_health_found\{.*status="warning",subject="sink \\"redis\\" of stream \\"crm\\"".*\} 1$/m,
		qr/^profile_stream_disk_days_left\{.*database="postgres".*\} 5\d+/m,
		qr/^profile_stream_storage_growth_bytes_per_day\{.*table="stream_gaps".*\} NaN$/m,
		qr/^profile_stream_storage_table_bytes\{.*table="materialized_profiles".*\} \d/m);
	$exporter->kill_kill;
}

# the other exporter, with a connection of our own
my $url = 'postgres://exporter@/postgres?sslmode=disable&host=' . $node->host . '&port=' . $node->port;
my $config = slurp_file("$files/sql_exporter.yml") =~ s/postgres:\/\/exporter\@localhost:5432\/postgres\?sslmode=disable/$url/r;
append_to_file("$dir/sql_exporter.yml", $config);
my $other_port = PostgreSQL::Test::Cluster::get_free_port();
my $other = IPC::Run::start([ "$programs/prometheus-sql-exporter", "-config.file=$dir/sql_exporter.yml", "-web.listen-address=127.0.0.1:$other_port" ], '&>', \$log);
has(scrape($other_port, qr/^sql_profile_stream_health/m),
	qr/^sql_profile_stream_stream\{col="applied_total".*stream="crm".*\} 20$/m,
	qr/^sql_profile_stream_health\{.*status="warning",subject="sink \\"redis\\" of stream \\"crm\\"".*\} 1$/m,
	qr/^sql_profile_stream_stream\{col="latency_p95".*stream="crm".*\} \d/m,
	qr/^sql_profile_stream_sink\{col="running".*sink="redis".*\} 0$/m);
$other->kill_kill;

# alerts
command_ok([ "$programs/promtool", 'check', 'rules', "$files/alerts.yml" ], 'the rules are well formed');
command_ok([ "$programs/promtool", 'test', 'rules', "$files/alerts_test.yml" ], 'each rule fires by what it is about');
my @rules = slurp_file("$files/alerts.yml") =~ /alert: (\w+)/g;
my $tests = slurp_file("$files/alerts_test.yml");
is(join(' ', grep { $tests !~ /alertname: $_\n/ } @rules), '', 'every rule has such a test');
my $queries = slurp_file("$files/postgres_exporter.yaml");
my %series = map { $_ => 1 } slurp_file("$files/alerts.yml") =~ /\b(profile_stream_[a-z_]+)(?=[ \[{)])/g;
foreach my $series (sort keys %series)
{
	my ($query) = grep { $series =~ /^$_\_/ } $queries =~ /^(\w+):$/mg;
	my $column = substr($series, length($query // '') + 1);
	ok(defined $query && $queries =~ /^$query:.*?- $column:/ms, "$series is a metric of the exporter");
}

# panels: their SQL as Grafana sends it, and whether its columns suit them
my $number = qr/^(?:smallint|integer|bigint|real|double precision|numeric)$/;
my %suits = (
	table => sub { @_ > 0 },
	# one bar for each row, named by the text
	bargauge => sub { (grep { $_ eq 'text' } @_) == 1 && (grep { /$number/ } @_) == @_ - 1 },
	barchart => sub { my ($name, @values) = @_; $name eq 'text' && @values > 0 && !grep { !/$number/ } @values });
my $dashboard = JSON::PP::decode_json(slurp_file("$files/grafana.json"));
foreach my $panel (@{ $dashboard->{panels} })
{
	my ($name, $sql) = ("panel $panel->{title}", $panel->{targets}[0]{rawSql});
	$sql =~ s/\$__timeFilter\((\w+)\)/$1 BETWEEN '2026-01-01T00:00:00Z' AND '2126-01-01T00:00:00Z'/g;
	unlike($sql, qr/\$/, "$name: no other macro");
	my ($status, $out, $err) = $node->psql('postgres', "SET ROLE exporter; $sql");
	is($status, 0, "$name: runs") or diag($err);
	my %columns = map { split /\|/ } my @described = split /\n/, $node->safe_psql('postgres', "SET ROLE exporter; $sql \\gdesc");
	my @types = map { (split /\|/)[1] } @described;
	ok($suits{ $panel->{type} }->(@types), "$name: columns for a $panel->{type}") or diag("@described");
	is(join(', ', grep { !/$number|^(?:text|boolean|timestamp with time zone)$/ } @types), '', "$name: types that Grafana shows");
	is(join(', ', grep { !exists $columns{$_} } map { $_->{matcher}{options} } @{ $panel->{fieldConfig}{overrides} }), '', "$name: overrides have a column");
	ok($panel->{options}{reduceOptions}{values}, "$name: a bar for each stream, not one for all") if $panel->{type} eq 'bargauge';
}
done_testing();


=pod

=head1 NAME

ProfileStream::Node - a PostgreSQL server that has the extension

=head1 DESCRIPTION

PostgreSQL::Test::Cluster, with what the tests of streams share: waiting for
progress, comparing with the model, and the checks that must hold after any
fault.

=cut

package ProfileStream::Node;

use strict;
use warnings;

use parent 'PostgreSQL::Test::Cluster';

use Exporter qw(import);
use IPC::Run ();
use POSIX qw(strftime);
use PostgreSQL::Test::Utils ();    # imports would hide methods of the parent
use ProfileStream::Broker;
use Test::More;
use Time::HiRes qw(usleep);

our @EXPORT_OK = qw(event events);

# The JSON text of an event. More fields by name: type, timestamp (a text or milliseconds), payload (JSON), and as
# more a JSON text that comes at the end. Nothing is escaped.
sub event
{
	my ($id, $customer, %more) = @_;
	my $type = $more{type} // 'seen';
	my $timestamp = $more{timestamp} // '2026-01-01T00:00:00Z';
	my $payload = defined $more{payload} ? qq(,"payload":$more{payload}) : '';

	$timestamp = qq("$timestamp") unless $timestamp =~ /^\d+$/;
	return qq({"eventId":"$id","customerId":"$customer","eventType":"$type","timestamp":$timestamp$payload) . ($more{more} // '') . '}';
}

# So many rows for the broker's produce(), each with an event. They are numbered from $from on; \$from is a counter,
# which they move on. Event n has the id en, the customer cn and partition 0. Options: customers => 10 and
# partitions => 2 take n modulo that, customer => 'c' takes this one; the others are those of event().
sub events
{
	my ($from, $n, %options) = @_;
	my $first = ref $from ? $$from : $from;

	$$from += $n if ref $from;
	return map {
		my $customer = $options{customer} // 'c' . ($options{customers} ? $_ % $options{customers} : $_);
		[ $_ % ($options{partitions} // 1), $customer, event("e$_", $customer, %options) ]
	} $first .. $first + $n - 1;
}

# As the parent does, but the limit of time is that of each query and not that of all together.
sub background_psql
{
	my ($node, @arguments) = @_;
	my $session = $node->SUPER::background_psql(@arguments);
	$session->set_query_timer_restart;
	return $session;
}

# As the parent does, but with an encoding, a locale and a superuser of its own, whatever those of the environment are.
$ENV{PGUSER} = 'postgres';

sub init
{
	my ($node, %options) = @_;
	return $node->SUPER::init(%options, extra => [ '--encoding=UTF8', '--no-locale', '--username=postgres', @{ $options{extra} // [] } ]);
}

# A started server with the extension. preload => 0: library not preloaded; conf => more settings.
sub start_new
{
	my ($class, $name, %options) = @_;
	my $node = $class->init_new($name, %options);

	$node->start;
	$node->safe_psql('postgres', 'CREATE EXTENSION profile_stream CASCADE');
	$node->{expected_signals} = 0;
	return $node;
}

# The same without the extension, not started; install_path => where another PostgreSQL is. A server made of its backup
# runs its streams, though Cluster.pm gives each server a cluster_name of its own, because profile_stream.cluster is alike.
sub init_new
{
	my ($class, $name, %options) = @_;
	my $node = $class->new($name, install_path => $options{install_path});

	$node->init(%{ $options{init} // {} });
	$node->append_conf('postgresql.conf', <<"END");
max_worker_processes = 16
restart_after_crash = on
log_min_messages = info
log_error_verbosity = default
profile_stream.cluster = 'test'
END
	$node->append_conf('postgresql.conf', "shared_preload_libraries = 'profile_stream'")
	  if $options{preload} // 1;
	$node->append_conf('postgresql.conf', "profile_stream.direct_access = $ENV{PS_DIRECT_ACCESS}") if $ENV{PS_DIRECT_ACCESS};
	$node->append_conf('postgresql.conf', $options{conf}) if $options{conf};
	return $node;
}

# A server that is just crashing ends psql before it has read its input, which IPC::Run takes for an error. It is none
# where a failure may be: a query is asked again, psql has failed.
sub poll_query_until
{
	my ($node, @arguments) = @_;
	my $result;

	until (eval { $result = $node->SUPER::poll_query_until(@arguments); 1 })
	{
		die $@ unless $@ =~ /Broken pipe/;
		usleep(100_000);
	}
	return $result;
}

sub psql
{
	my ($node, $dbname, $sql, %options) = @_;
	my $list = wantarray;
	my @result = eval { $list ? $node->SUPER::psql($dbname, $sql, %options) : scalar($node->SUPER::psql($dbname, $sql, %options)) };

	if ($@)
	{
		die $@ if $options{on_error_die} || $@ !~ /Broken pipe/;
		@result = (2, '', $@);
	}
	return $list ? @result : $result[0];
}

# Runs statements in the database postgres, which must not fail; returns what they print.
sub sql
{
	my ($node, @statements) = @_;
	return $node->safe_psql('postgres', join(";\n", @statements));
}

# Creates a stream of a topic, or of an array of topics, or of undef where topic_pattern is an argument; more arguments as
# name => SQL expression.
sub create_stream
{
	my ($node, $name, $broker, $topic, %arguments) = @_;
	my $more = join('', map { ", $_ => $arguments{$_}" } sort keys %arguments);
	my $which = ref $topic ? ", topics => '{" . join(',', @$topic) . "}'" : defined $topic ? ", topic => '$topic'" : '';
	$node->safe_psql('postgres',
		"SELECT profile_stream.create_stream('$name', bootstrap_servers => '" . $broker->bootstrap . "'$which$more)");
}

# Sum of what the partitions of a stream have taken.
my $taken = <<'END';
SELECT coalesce(sum(o.applied + o.duplicates + o.dead + o.late + o.late_dropped + o.ignored + o.tombstones + o.blocked), 0)
FROM profile_stream_internal.stream_offsets o JOIN profile_stream.streams s USING (stream_id) WHERE s.name =
END

sub taken
{
	my ($node, $stream) = @_;
	return $node->safe_psql('postgres', "$taken '$stream'");
}

# Waits until a stream has taken so many messages; resumes it where it came up quarantined.
sub wait_taken
{
	my ($node, $stream, $messages) = @_;
	my $seen = '';

	for (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
	{
		my ($rc, $out, $err) = $node->psql('postgres', "$taken '$stream'");
		if ($rc == 0)
		{
			$seen = $out;
			return 1 if $out >= $messages;
			$node->psql('postgres', "SELECT profile_stream.resume_stream('$stream')")
			  if $node->stream_state($stream) eq 'quarantined';
		}
		usleep(100_000);
	}
	diag("$stream took $seen of $messages messages, state " . $node->stream_state($stream));
	diag($node->psql('postgres', "SELECT * FROM profile_stream_internal.stream_status"));
	return 0;
}

# Waits until so many messages were read, applied or held.
sub wait_read
{
	my ($node, $stream, $messages) = @_;
	return $node->poll_query_until('postgres', <<"END");
SELECT coalesce(sum(o.consumed - o.replayed), 0) >= $messages
FROM profile_stream_internal.stream_offsets o JOIN profile_stream.streams s USING (stream_id) WHERE s.name = '$stream'
END
}

# Two passed tests when the books of a stream balance at this moment.
sub is_balanced
{
	my ($node, $stream, $name) = @_;
	is($node->safe_psql('postgres', "SELECT * FROM profile_stream.reconcile('$stream') WHERE difference <> 0 OR wrong_chunks <> 0"),
		'', "$name: the books balance");
	is($node->safe_psql('postgres', "SELECT COALESCE(sum(c.applied), 0) = (SELECT COALESCE(sum(p.applied), 0) FROM profile_stream.stat_partitions p WHERE p.stream = '$stream')
		FROM profile_stream.stat_sources c WHERE c.stream = '$stream'"), 't', "$name: so do the counts by source");
}

# Name of a channel that is the database's own, profile_updates or segment_changes.
sub channel
{
	my ($self, $name) = @_;
	return $self->safe_psql('postgres', "SELECT profile_stream.notification_channel('" . ($name // 'profile_updates') . "')");
}

# State of a stream, '' when the server does not answer.
sub stream_state
{
	my ($node, $stream) = @_;
	my ($rc, $out) = $node->psql('postgres', "SELECT state FROM profile_stream.stat_streams WHERE stream = '$stream'");
	return $rc == 0 ? $out : '';
}

sub wait_state
{
	my ($node, $stream, $state) = @_;
	return $node->poll_query_until('postgres',
		"SELECT coalesce((SELECT state ~ '^($state)\$' FROM profile_stream.stat_streams WHERE stream = '$stream'), false)");
}

# Waits until a condition on the row of a stream's sink in stat_sinks is true; names the sink where there are several.
sub wait_sink
{
	my ($node, $stream, $condition, $sink) = @_;
	my $where = "stream = '$stream'" . (defined $sink ? " AND sink = '$sink'" : '');
	return $node->poll_query_until('postgres', "SELECT coalesce((SELECT $condition FROM profile_stream.stat_sinks WHERE $where), false)")
	  || diag($node->psql('postgres', 'SELECT * FROM profile_stream.stat_sinks')) && 0;
}

# Two passed tests when psql fails with a message that matches.
sub fails_like
{
	my ($node, $sql, $pattern, $name) = @_;
	my ($rc, $out, $err) = $node->psql('postgres', $sql);
	isnt($rc, 0, "$name: refused");
	like($err, $pattern, "$name: says why");
}

# Waits until the rebuild of a database is in a state, '' for none.
sub wait_rebuild
{
	my ($node, $state, $dbname) = @_;
	return $node->poll_query_until($dbname // 'postgres',
		"SELECT coalesce((SELECT state FROM profile_stream.stat_rebuilds), '') = '$state'")
	  || diag($node->psql($dbname // 'postgres', 'SELECT * FROM profile_stream.stat_rebuilds')) && 0;
}

# Process id of the rebuild's worker, '' when there is none or the server does not answer.
sub rebuild_pid
{
	my ($node) = @_;
	my ($rc, $out) = $node->psql('postgres', "SELECT pid FROM pg_stat_activity WHERE backend_type = 'profile_stream rebuild'");
	return $rc == 0 ? $out : '';
}

# SQL condition for a worker of a stream.
my $is_worker = "backend_type = 'profile_stream worker'";

# Process id of the worker, '' when there is none or the server does not answer.
sub worker_pid
{
	my ($node) = @_;
	my ($rc, $out) = $node->psql('postgres', "SELECT pid FROM pg_stat_activity WHERE $is_worker LIMIT 1");
	return $rc == 0 ? $out : '';
}

# Process id of the worker that holds a stream's lease, '' when none does or the server does not answer.
sub stream_pid
{
	my ($node, $stream) = @_;
	my ($rc, $out) = $node->psql('postgres', "SELECT worker_pid FROM profile_stream.stat_streams WHERE stream = '$stream'");
	return $rc == 0 ? $out : '';
}

# Waits until a stream has a worker, another one than that of a process id.
sub wait_stream_pid
{
	my ($node, $stream, $not) = @_;
	$not ||= 0;
	return $node->poll_query_until('postgres',
		"SELECT coalesce((SELECT worker_pid <> $not FROM profile_stream.stat_streams WHERE stream = '$stream'), false)");
}

# Waits until a stream has no worker.
sub wait_stopped
{
	my ($node, $stream) = @_;
	return $node->poll_query_until('postgres', "SELECT worker_pid IS NULL FROM profile_stream.stat_streams WHERE stream = '$stream'");
}

# Forgets which events were applied, of customers whose ids are like a pattern.
sub forget_event_ids
{
	my ($node, $customers) = @_;
	$customers //= '%';
	return $node->safe_psql('postgres', "UPDATE profile_stream.materialized_profiles SET event_ids = '' WHERE customer_id LIKE '$customers';"
		  . " DELETE FROM profile_stream_internal.event_id_chunks WHERE customer_id LIKE '$customers'");
}

# Waits until the server has so many workers.
sub wait_worker
{
	my ($node, $number) = @_;
	return $node->poll_query_until('postgres', "SELECT count(*) = $number FROM pg_stat_activity WHERE $is_worker");
}

# Waits until no worker or relay holds anything but its leases: no transaction, no snapshot, no other lock.
sub wait_idle
{
	my ($node) = @_;
	my $is_ours = "backend_type IN ('profile_stream worker', 'profile_stream relay')";
	return $node->poll_query_until('postgres', <<"END");
SELECT NOT EXISTS (SELECT FROM pg_stat_activity
		WHERE $is_ours AND (state <> 'idle' OR xact_start IS NOT NULL OR backend_xmin IS NOT NULL))
	AND NOT EXISTS (SELECT FROM pg_locks l JOIN pg_stat_activity USING (pid)
		WHERE $is_ours AND (l.locktype <> 'advisory' OR l.objsubid NOT IN (3, 6, 8)))
END
}

# Waits until the server answers queries again after a crash.
sub wait_alive
{
	my ($node) = @_;
	return $node->poll_query_until('postgres', 'SELECT true');
}

# Kills a process of the server, and waits until the server has noticed and is back: asked at once, it might answer
# a last time. Returns whether there was a process to kill.
sub kill_process
{
	my ($node, $pid) = @_;
	my $from = -s $node->logfile;

	return 0 unless $pid && kill('KILL', $pid);
	$node->expect_signals(1);
	$node->wait_for_log(qr/\(PID $pid\) was terminated by signal 9/, $from);
	return $node->wait_alive;
}

# Sets or, with '', clears a failpoint, also in a server that is just crashing because of it.
sub set_failpoint
{
	my ($node, $failpoint) = @_;
	$node->append_conf('postgresql.conf', "profile_stream.failpoint = ''") unless $node->{has_failpoint_line}++;
	# each new worker dies there until it is taken back, which may be late on a busy machine: that is no reason to give the stream up
	$node->append_conf('postgresql.conf', 'profile_stream.worker_restart_limit = 1000') if $failpoint =~ /:kill$/ && !$node->{has_kills}++;
	$node->adjust_conf('postgresql.conf', 'profile_stream.failpoint', "'$failpoint'");
	$node->reload;
}

# Whether the library was built with failpoints.
sub has_failpoints
{
	my ($node) = @_;
	return $node->safe_psql('postgres', "LOAD 'profile_stream'; SELECT count(*) FROM pg_settings WHERE name = 'profile_stream.failpoint'") == 1;
}

# Generates events into files; returns their folder, the list of files, how many events they have, and the time of the last.
sub generate
{
	my (%options) = @_;
	my $dir = PostgreSQL::Test::Utils::tempdir('events');
	my $until = $ENV{PS_UNTIL} // strftime('%Y-%m-%dT%H:%M:00Z', gmtime(time - 120));
	my $parts = $options{parts} // 1;
	my @files = map { "$dir/events.$_" } 0 .. $parts - 1;

	note("seed $options{seed}, $options{events} events until $until");
	IPC::Run::run([ ProfileStream::Broker::tool('generate.py'), '--seed', $options{seed}, '--events', $options{events},
			'--customers', $options{customers}, '--partitions', $options{partitions} // 4, '--until', $until,
			defined $options{seeded} ? ('--seeded', $options{seeded}) : (),
			defined $options{repeats} ? ('--repeats', $options{repeats}) : (),
			defined $options{block} ? ('--block', $options{block}) : () ],
		'>', "$dir/all")
	  or die 'could not generate events';
	open(my $all, '<', "$dir/all") or die $!;
	my @out = map { open(my $handle, '>', $_) or die $!; $handle } @files;
	my $n = 0;
	while (my $line = <$all>)
	{
		my $handle = $out[ int($n++ * $parts / $options{events}) ];
		print $handle $line;
	}
	close($_) or die $! foreach @out;
	return { files => \@files, until => $until, dir => $dir, events => $options{events} };
}

# One passed test when the server holds what the model says of the events; model => [more arguments of the model],
# effects => 1: but for the counters, other_values => 1: of the same events in another format.
sub equals_model
{
	my ($node, $stream, $events, $name, %options) = @_;
	my $dbname = $options{dbname} // 'postgres';
	my $expected = join('', "$events->{dir}/expected", @{ $options{model} // [] }, '.json');
	my $output = '';

	if (!$events->{modelled}{"@{ $options{model} // [] }"}++)
	{
		my $later = strftime('%Y-%m-%dT%H:%M:%SZ', gmtime(time + 2 * 86400));
		IPC::Run::run([ ProfileStream::Broker::tool('model.py'), '--as-of', $events->{until}, '--as-of', $later,
				@{ $options{model} // [] }, @{ $events->{files} } ], '>', $expected)
		  or die 'could not run the model';
	}
	IPC::Run::run([ ProfileStream::Broker::tool('compare.py'), '--stream', $stream, '--expected', $expected,
			$options{effects} ? '--effects' : (), $options{other_values} ? '--other-values' : (), '--', '-h', $node->host, '-p', $node->port, '-d', $dbname ], '>', \$output, '2>&1');
	my ($summary) = $output =~ /(\d+ passed, \d+ failed)\s*\z/;
	note($summary // $output);
	return ok(defined $summary && $summary =~ /, 0 failed/ && $summary !~ /^0 passed/, "$name: equals the model")
	  || diag($output);
}

# What a sink may have delivered of each customer between the time $from and now, as [customer, document, ...]: what
# get_profile() says of that time, and what it says now.
sub documents_since
{
	my ($node, $from) = @_;
	return map { [ split(/\t/, $_) ] } split(/\n/, $node->sql(<<"END"));
SELECT concat_ws(E'\\t', customer_id, profile_stream.get_profile(customer_id, '$from') - '{asOf,currentMembers}'::text[], profile_stream.get_profile(customer_id))
FROM profile_stream.materialized_profiles
END
}

# Says that the test itself killed so many processes of the server.
sub expect_signals
{
	my ($node, $number) = @_;
	$node->{expected_signals} += $number;
}

# What must hold after any fault: nothing held, nothing open, nobody died but by us.
sub is_clean
{
	my ($node, $name) = @_;
	my $deaths = () = PostgreSQL::Test::Utils::slurp_file($node->logfile) =~ /was terminated by signal/g;

	is($node->safe_psql('postgres', <<"END"), '0', "$name: no advisory lock but leases");
SELECT count(*) FROM pg_locks l LEFT JOIN pg_stat_activity a USING (pid)
WHERE l.locktype = 'advisory' AND NOT coalesce(a.backend_type IN ('profile_stream worker', 'profile_stream relay', 'profile_stream rebuild'), false)
END
	ok($node->wait_idle, "$name: no worker keeps a transaction, a snapshot or a lock");
	is($node->safe_psql('postgres', "SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%'"),
		'0', "$name: nobody idle in a transaction");
	is($node->safe_psql('postgres', 'SELECT count(*) FROM pg_prepared_xacts'), '0', "$name: no prepared transaction");
	is($deaths, $node->{expected_signals}, "$name: no process died by a signal that the test did not send");
}

1;

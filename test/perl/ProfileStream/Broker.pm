
=pod

=head1 NAME

ProfileStream::Broker - a Kafka broker that a test starts for itself

=head1 DESCRIPTION

A real Kafka (KRaft, one process, loopback only) from the jars below KAFKA_HOME,
or with mock => 1 the mock broker of librdkafka. Data and logs live in a
temporary folder, and whatever is started here ends with the test. The first
broker of a run leaves in the folder PS_TEST_CACHE, by default tmp_check, what
makes the start of the next ones short: a formatted storage and, as its process
ends, an archive of Java's classes.

=cut

package ProfileStream::Broker;

use strict;
use warnings;

use File::Basename qw(dirname);
use File::Spec;
use IPC::Run ();
use POSIX ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::RecursiveCopy;
use PostgreSQL::Test::Utils;
use ProfileStream::Proxy;
use Test::More;
use Time::HiRes qw(usleep);

my $tools = File::Spec->rel2abs(dirname(__FILE__) . '/../../tools');
my %running;    # pid => 1, of every broker process alive

# Whether a real Kafka can be started.
sub available
{
	return defined $ENV{KAFKA_HOME} && -d "$ENV{KAFKA_HOME}/libs";
}

# Path of a program of test/tools.
sub tool
{
	my ($name) = @_;
	return "$tools/$name";
}

# A started broker. topics => [[name, partitions], ...], mock => 1 for the mock,
# proxied => 1 for one more listener, behind proxy(); listeners => { NAME => { protocol, settings => { name => value } } }
# for others, whose addresses listener() tells; settings => { name => value } of the broker; scram => ['SCRAM-SHA-512=[name=…,password=…]'] for users.
sub new
{
	my ($class, %options) = @_;
	my $self = bless {
		dir => PostgreSQL::Test::Utils::tempdir('broker'),
		port => PostgreSQL::Test::Cluster::get_free_port(),
		controller_port => PostgreSQL::Test::Cluster::get_free_port(),
		mock => $options{mock},
		listeners => $options{listeners} // {},
		settings => $options{settings} // {},
		scram => $options{scram} // [],
	  },
	  $class;

	if ($self->{mock})
	{
		$self->_start_mock(@{ $options{topics} });
		return $self;
	}
	$self->{proxy} = ProfileStream::Proxy->new if $options{proxied};
	$self->_format;
	$self->start;
	$self->create_topic(@$_) foreach @{ $options{topics} };
	return $self;
}

sub bootstrap
{
	my ($self) = @_;
	return $self->{bootstrap} // "127.0.0.1:$self->{port}";
}

# The proxy. Its listener advertises the proxy's address, so a client that connects to it comes back to it.
sub proxy
{
	my ($self) = @_;
	return $self->{proxy};
}

# The address of a listener.
sub listener
{
	my ($self, $name) = @_;
	return "127.0.0.1:$self->{listeners}{$name}{port}";
}

sub _java
{
	my ($self, @arguments) = @_;
	return (
		'java', '-Xmx512m', '-XX:TieredStopAtLevel=1', '-XX:+UseSerialGC',
		'-Dorg.slf4j.simpleLogger.defaultLogLevel=info',
		'-cp', "$ENV{KAFKA_HOME}/libs/*", @arguments);
}

# What all tests of a run share: Java's archive of Kafka's classes, and a formatted storage.
sub _cache
{
	my $folder = $ENV{PS_TEST_CACHE} // $PostgreSQL::Test::Utils::tmp_check;
	mkdir($folder);
	return $folder;
}

sub _archive { return _cache() . '/kafka.jsa'; }

# Writes the settings and formats the storage.
sub _format
{
	my ($self) = @_;
	my $listeners = "PLAINTEXT://127.0.0.1:$self->{port},CONTROLLER://127.0.0.1:$self->{controller_port}";
	my $advertised = "PLAINTEXT://127.0.0.1:$self->{port}";
	my $protocols = 'CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,PROXIED:PLAINTEXT';
	my $settings = join('', map { "$_=$self->{settings}{$_}\n" } sort keys %{ $self->{settings} });

	foreach my $name (sort keys %{ $self->{listeners} })
	{
		my $listener = $self->{listeners}{$name};
		$listener->{port} = PostgreSQL::Test::Cluster::get_free_port();
		$listeners .= ",$name://" . $self->listener($name);
		$advertised .= ",$name://" . $self->listener($name);
		$protocols .= ",$name:$listener->{protocol}";
		$settings .= 'listener.name.' . lc($name) . ".$_=$listener->{settings}{$_}\n" foreach sort keys %{ $listener->{settings} };
	}
	if ($self->{proxy})
	{
		$listeners .= ",PROXIED://127.0.0.1:$self->{proxy}{target}";
		$advertised .= ',PROXIED://' . $self->{proxy}->bootstrap;
	}

	PostgreSQL::Test::Utils::append_to_file("$self->{dir}/server.properties", <<"END");
process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=127.0.0.1:$self->{controller_port}
controller.quorum.voters=1\@127.0.0.1:$self->{controller_port}
listeners=$listeners
advertised.listeners=$advertised
controller.listener.names=CONTROLLER
listener.security.protocol.map=$protocols
log.dirs=$self->{dir}/data
auto.create.topics.enable=false
num.partitions=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=1
group.initial.rebalance.delay.ms=0
log.retention.ms=-1
message.max.bytes=20000000
log.cleaner.backoff.ms=200
transaction.abort.timed.out.transaction.cleanup.interval.ms=500
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
$settings
END
	my $formatted = _cache() . '/kafka_formatted';
	my @scram = map { ('--add-scram', $_) } @{ $self->{scram} };
	my ($out, $err);
	return PostgreSQL::Test::RecursiveCopy::copypath($formatted, "$self->{dir}/data") if -d $formatted && !@scram;
	IPC::Run::run([ $self->_java('kafka.tools.StorageTool', 'format', '-t', 'cHJvZmlsZS1zdHJlYW0tMA',
				'-c', "$self->{dir}/server.properties", @scram) ],
		'<', File::Spec->devnull, '>', \$out, '2>', \$err)
	  or die "could not format Kafka's storage: $out$err";
	return if @scram;
	PostgreSQL::Test::RecursiveCopy::copypath("$self->{dir}/data", "$formatted.$$");
	rename("$formatted.$$", $formatted);
}

# Starts the broker and waits until it serves; same port and data each time.
sub start
{
	my ($self) = @_;
	my $log = "$self->{dir}/kafka.log";
	PostgreSQL::Test::Utils::append_to_file($log, '');
	my $from = -s $log;
	my $archive = _archive();
	my $classes = -f $archive ? "-XX:SharedArchiveFile=$archive" : "-XX:ArchiveClassesAtExit=$self->{dir}/classes";
	my $pid = fork() // die "could not fork: $!";

	if ($pid == 0)
	{
		open(STDIN, '<', File::Spec->devnull);
		open(STDOUT, '>>', $log);
		open(STDERR, '>&', \*STDOUT);
		exec($self->_java($classes, 'kafka.Kafka', "$self->{dir}/server.properties")) or POSIX::_exit(127);
	}
	$self->{pid} = $pid;
	$running{$pid} = 1;
	for (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
	{
		return $self if slurp_file($log, $from) =~ /Kafka Server started/;
		$self->_reaped and last;
		usleep(100_000);
	}
	die "Kafka did not start: " . slurp_file($log, $from);
}

sub _start_mock
{
	my ($self, @topics) = @_;

	$self->{stdin} = '';
	my $line = '';
	$self->{harness} = IPC::Run::start([ tool('mockbroker'), map { "$_->[0]:$_->[1]" } @topics ],
		'<', \$self->{stdin}, '>', \$line);
	$self->{harness}->pump until $line =~ /\n/;
	chomp($self->{bootstrap} = $line);
}

# Has the mock answer for a topic with an error of Kafka, by its code; 0: without one again.
sub set_topic_error
{
	my ($self, $topic, $code) = @_;
	$self->{stdin} .= "$topic $code\n";
	$self->{harness}->pump_nb until $self->{stdin} eq '';
}

# Whether the process has ended, collecting it if so.
sub _reaped
{
	my ($self) = @_;
	return 1 unless defined $self->{pid};
	return 0 if waitpid($self->{pid}, POSIX::WNOHANG()) == 0;
	delete $running{ $self->{pid} };
	undef $self->{pid};
	return 1;
}

sub _end
{
	my ($self, $signal) = @_;

	return unless defined $self->{pid};
	kill($signal, $self->{pid});
	kill('CONT', $self->{pid});
	for (1 .. 600)
	{
		return if $self->_reaped;
		usleep(100_000);
	}
	kill('KILL', $self->{pid});
	waitpid($self->{pid}, 0);
	delete $running{ $self->{pid} };
	undef $self->{pid};
}

# Ends the broker as an operator does.
sub stop
{
	my ($self) = @_;
	if ($self->{harness})
	{
		$self->{harness}->kill_kill;
		undef $self->{harness};
	}
	$self->_end('TERM');
	rename("$self->{dir}/classes", _archive());
}

sub kill9 { $_[0]->_end('KILL'); }
sub freeze { kill('STOP', $_[0]->{pid}) or die "could not freeze Kafka"; }
sub thaw { kill('CONT', $_[0]->{pid}) or die "could not thaw Kafka"; }

sub restart
{
	my ($self) = @_;
	$self->stop;
	return $self->start;
}

# Runs produce; dies when it fails.
sub _produce
{
	my ($self, @arguments) = @_;
	my $err = '';
	IPC::Run::run([ tool('produce'), '-b', $self->bootstrap, @arguments ], '<', File::Spec->devnull, '2>', \$err)
	  or die "produce @arguments: $err";
}

# Runs topic, the program that changes topics; dies when it fails.
sub _topic
{
	my ($self, $topic, @arguments) = @_;
	my $err = '';
	IPC::Run::run([ tool('topic'), '-b', $self->bootstrap, '-t', $topic, @arguments ], '<', File::Spec->devnull, '2>', \$err)
	  or die "topic @arguments: $err";
}

sub create_topic
{
	my ($self, $topic, $partitions) = @_;
	$self->_produce('-t', $topic, '-p', $partitions, File::Spec->devnull);
}

sub delete_topic
{
	my ($self, $topic) = @_;
	$self->_topic($topic, '-X');
}

# Adds partitions to a topic, up to a number.
sub add_partitions
{
	my ($self, $topic, $partitions) = @_;
	$self->_topic($topic, '-A', $partitions);
}

# Sets settings of a topic, all that are not the broker's.
sub set_settings
{
	my ($self, $topic, %settings) = @_;
	$self->_topic($topic, '-C', join(',', map { "$_=$settings{$_}" } sort keys %settings));
}

# Deletes the records of a partition before an offset, as retention does.
sub delete_records
{
	my ($self, $topic, $partition, $offset) = @_;
	$self->_topic($topic, '-D', "$partition:$offset");
}

# Produces a file of lines partition, key, base64 of the value; batch => n: so many messages at once, at most.
sub produce_file
{
	my ($self, $topic, $file, %options) = @_;
	$self->_produce('-t', $topic, $options{batch} ? ('-n', $options{batch}) : (), $file);
}

# Starts producing a file; the caller lets it finish with finish_producing.
sub start_producing
{
	my ($self, $topic, $file) = @_;
	my $producer = { err => '' };
	$producer->{harness} = IPC::Run::start([ tool('produce'), '-b', $self->bootstrap, '-t', $topic, $file ],
		'<', File::Spec->devnull, '2>', \$producer->{err});
	return $producer;
}

sub finish_producing
{
	my ($self, $producer) = @_;
	$producer->{harness}->finish or die "produce: $producer->{err}";
}

# [partition, key, value, { header => value }] rows as lines of produce; an undefined value is a tombstone.
sub lines
{
	require MIME::Base64;
	return map {
		my $headers = $_->[3] // {};
		join("\t", $_->[0], $_->[1], defined $_->[2] ? MIME::Base64::encode_base64($_->[2], '') : '-',
			%$headers ? join(',', map { "$_=" . MIME::Base64::encode_base64($headers->{$_}, '') } sort keys %$headers) : ()) . "\n"
	} @_;
}

# Produces such rows.
sub produce
{
	my ($self, $topic, @rows) = @_;
	my $file = "$self->{dir}/rows";
	open(my $handle, '>', $file) or die "could not write $file: $!";
	print $handle lines(@rows);
	close($handle);
	$self->produce_file($topic, $file);
}

# Starts a producer of transactions; tell() it lines, and "flush", "commit" or "abort", which return when done.
# What it leaves open the broker aborts after so many milliseconds.
sub start_transactions
{
	my ($self, $topic, $id, $timeout) = @_;
	my $producer = { in => '', out => '', err => '' };
	$producer->{harness} = IPC::Run::start([ tool('produce'), '-b', $self->bootstrap, '-t', $topic, '-T', $id, '-w', $timeout // 60_000 ],
		'<', \$producer->{in}, '>', \$producer->{out}, '2>', \$producer->{err});
	return $producer;
}

sub tell
{
	my ($self, $producer, @lines) = @_;
	my $command = pop @lines;

	$producer->{out} = '';
	$producer->{in} .= join('', @lines) . "$command\n";
	$producer->{harness}->pump until $producer->{out} =~ /ok\n/ || !$producer->{harness}->pumpable;
	die "$command: $producer->{err}" unless $producer->{out} =~ /ok\n/;
}

sub DESTROY
{
	my ($self) = @_;
	local ($?, $@);
	$self->{harness}->kill_kill if $self->{harness};
	$self->_end('KILL');
}

END
{
	local $?;
	foreach my $pid (keys %running)
	{
		kill('KILL', $pid);
		kill('CONT', $pid);
	}
}

1;


=pod

=head1 NAME

ProfileStream::Redis - a Redis that a test starts for itself

=head1 DESCRIPTION

A redis-server on a free port of the loopback interface and on a unix socket,
that keeps nothing on disk, or a Sentinel. It ends with the test.

=cut

package ProfileStream::Redis;

use strict;
use warnings;

use File::Spec;
use IPC::Run ();
use POSIX ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

my %running;    # pid => 1, of every server alive

# A started server; more settings as name => value.
sub new
{
	my ($class, %settings) = @_;
	my $self = bless {
		dir => PostgreSQL::Test::Utils::tempdir_short(),
		port => PostgreSQL::Test::Cluster::get_free_port(),
		settings => {%settings},
	  },
	  $class;
	return $self->start;
}

# A started Sentinel of a primary; more lines of its configuration.
sub sentinel
{
	my ($class, $name, $primary, $quorum, @lines) = @_;
	my $self = bless { dir => PostgreSQL::Test::Utils::tempdir_short(), port => PostgreSQL::Test::Cluster::get_free_port(), settings => {} }, $class;

	PostgreSQL::Test::Utils::append_to_file("$self->{dir}/sentinel.conf", join("\n", "port $self->{port}", 'bind 127.0.0.1', "dir $self->{dir}",
			"sentinel monitor $name 127.0.0.1 $primary->{port} $quorum", "sentinel down-after-milliseconds $name 1500",
			"sentinel failover-timeout $name 5000", @lines, ''));
	$self->{sentinel} = "$self->{dir}/sentinel.conf";
	return $self->start;
}

sub address { return "127.0.0.1:$_[0]->{port}"; }
sub socket { return "$_[0]->{dir}/redis.sock"; }

# Starts the server and waits until it answers; same port and socket each time.
sub start
{
	my ($self) = @_;
	my %settings = (
		bind => '127.0.0.1', port => $self->{port}, unixsocket => $self->socket, unixsocketperm => 777, dir => $self->{dir},
		save => '', appendonly => 'no', daemonize => 'no', %{ $self->{settings} });
	my $pid = fork() // die "could not fork: $!";

	if ($pid == 0)
	{
		open(STDIN, '<', File::Spec->devnull);
		open(STDOUT, '>>', "$self->{dir}/log");
		open(STDERR, '>&', \*STDOUT);
		exec('redis-server', $self->{sentinel}, '--sentinel') if $self->{sentinel};
		exec('redis-server', map { ("--$_", $settings{$_}) } sort keys %settings) or POSIX::_exit(127);
	}
	$self->{pid} = $pid;
	$running{$pid} = 1;
	for (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
	{
		return $self if $self->command('PING') =~ /PONG|NOAUTH/;
		last if waitpid($pid, POSIX::WNOHANG()) != 0;
		usleep(100_000);
	}
	die 'Redis did not start: ' . slurp_file("$self->{dir}/log");
}

# Runs a command, returns what redis-cli prints.
sub command
{
	my ($self, @words) = @_;
	my $output = '';
	IPC::Run::run([ 'redis-cli', $self->{sentinel} ? ('-p', $self->{port}) : ('-s', $self->socket), @words ], '<', File::Spec->devnull, '>', \$output, '2>&1');
	chomp($output);
	return $output;
}

# Values of all keys that begin with a prefix, by what follows it.
sub values_of
{
	my ($self, $prefix) = @_;
	my @keys = sort grep { $_ ne '' } split(/\n/, $self->command('--scan', '--pattern', "$prefix*"));
	my %values;

	while (my @some = splice(@keys, 0, 500))
	{
		my @found = split(/\n/, $self->command('MGET', @some), -1);
		@values{ map { substr($_, length($prefix)) } @some } = @found;
	}
	return \%values;
}

# Passed tests when everything is delivered and there is exactly a key for each profile, with what get_profile() says of
# the time $from, or says now: it was delivered between.
sub equals_profiles
{
	my ($self, $node, $stream, $from, $name) = @_;
	ok($node->wait_sink($stream, "backlog = 0 AND state = 'running'", 'redis'), "$name: everything is delivered");
	my $values = $self->values_of('profile:');
	my @wrong;
	my $n = 0;

	foreach my $row ($node->documents_since($from))
	{
		my ($customer, @documents) = @$row;
		my $value = delete $values->{$customer} // '';
		push @wrong, "$customer: $value" unless grep { $_ eq $value } @documents;
		$n++;
	}
	cmp_ok($n, '>', 0, "$name: there are profiles");
	is(scalar(@wrong), 0, "$name: each of $n keys is what get_profile() says") or diag(join("\n", grep { defined } @wrong[ 0 .. 3 ]));
	is(join(' ', keys %$values), '', "$name: and no other key is there");
}

sub freeze { kill('STOP', $_[0]->{pid}) or die 'could not freeze Redis'; }
sub thaw { kill('CONT', $_[0]->{pid}) or die 'could not thaw Redis'; }

# Ends the server at once; nothing that it held survives.
sub kill9
{
	my ($self) = @_;
	return unless defined $self->{pid};
	kill('KILL', $self->{pid});
	waitpid($self->{pid}, 0);
	delete $running{ delete $self->{pid} };
}

sub restart
{
	my ($self) = @_;
	$self->kill9;
	return $self->start;
}

sub DESTROY
{
	my ($self) = @_;
	local ($?, $@);
	$self->kill9;
}

END
{
	local $?;
	kill('KILL', $_) foreach keys %running;
}

1;

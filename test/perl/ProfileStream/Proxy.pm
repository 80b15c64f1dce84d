
=pod

=head1 NAME

ProfileStream::Proxy - a network that fails on command, for tests

=head1 DESCRIPTION

A process of test/tools/proxy.py between a client and a port. It forwards until
it is told otherwise, and ends with the test.

=cut

package ProfileStream::Proxy;

use strict;
use warnings;

use IPC::Open2 qw(open2);
use PostgreSQL::Test::Cluster;
use ProfileStream::Broker;

# A proxy that listens on one free port and forwards to {target}, another one.
sub new
{
	my ($class) = @_;
	my $self = bless {
		port => PostgreSQL::Test::Cluster::get_free_port(),
		target => PostgreSQL::Test::Cluster::get_free_port(),
	  },
	  $class;
	$self->{pid} = open2($self->{answers}, $self->{commands}, ProfileStream::Broker::tool('proxy.py'),
		$self->{port}, $self->{target});
	$self->tell('pass');
	return $self;
}

sub bootstrap
{
	my ($self) = @_;
	return "127.0.0.1:$self->{port}";
}

# Gives a command of proxy.py; it is in force on return.
sub tell
{
	my ($self, @command) = @_;
	my $handle = $self->{commands};
	print $handle "@command\n";
	$handle->flush;
	my $answer = readline($self->{answers});
	die "the proxy did not take '@command'" unless defined $answer && $answer eq "ok\n";
}

sub DESTROY
{
	my ($self) = @_;
	local ($?, $@);
	close($self->{commands});
	waitpid($self->{pid}, 0);
}

1;


=pod

=head1 NAME

ProfileStream::Topic - what a stream has written to a topic of Kafka

=head1 DESCRIPTION

Reads a topic with a client of its own and compares what it says with the
profiles.

=cut

package ProfileStream::Topic;

use strict;
use warnings;

use File::Spec;
use IPC::Run ();
use ProfileStream::Broker;
use Test::More;

sub new
{
	my ($class, $broker, $name) = @_;
	return bless { broker => $broker, name => $name }, $class;
}

# All messages as [partition, offset, key, value, headers], '-' for what is null; uncommitted => 1: also what is not committed.
# Waits for the end of transactions that are open; leave_open => 1: leaves them out.
sub messages
{
	my ($self, %options) = @_;
	my ($output, $err) = ('', '');
	IPC::Run::run([ ProfileStream::Broker::tool('consume'), '-b', $self->{broker}->bootstrap, '-t', $self->{name}, $options{uncommitted} ? '-u' : (), $options{leave_open} ? '-o' : () ],
		'<', File::Spec->devnull, '>', \$output, '2>', \$err)
	  or die "consume: $err";
	return map { [ split(/\t/, $_, -1) ] } split(/\n/, $output);
}

# Passed tests when what a compacted topic of updates keeps is what get_profile() says of the time $from, or says now: it
# was delivered between; and when no version is older than one before it, be it committed or not.
sub equals_profiles
{
	my ($self, $node, $stream, $from, $name) = @_;
	ok($node->wait_sink($stream, "backlog = 0 AND state = 'running'", 'changelog'), "$name: everything is delivered");
	my (%last, %version, @wrong, @back);
	my $n = 0;

	foreach my $message ($self->messages(uncommitted => 1))
	{
		my ($partition, $offset, $key, $value, $headers) = @$message;
		my ($header) = $headers =~ /^profile-version=(\d+)$/;
		my ($version) = $value =~ /"version" : (\d+),/;
		push @wrong, "$key: header $headers" if $value ne '-' && (!defined $header || $header != $version);
		push @back, "$key: $version after $version{$key} at $partition:$offset" if defined $version && $version < ($version{$key} // 0);
		$version{$key} = $version // 0;
	}
	is(join("\n", @back[ 0 .. ($#back > 3 ? 3 : $#back) ]), '', "$name: no version goes back");
	$last{ $_->[2] } = $_->[3] foreach $self->messages;
	foreach my $row ($node->documents_since($from))
	{
		my ($customer, @documents) = @$row;
		my $value = delete $last{$customer} // '';
		my ($profile) = $value =~ /"profile" : (\{.*\})\}$/;
		push @wrong, "$customer: $value" unless grep { defined $profile && $_ eq $profile } @documents;
		$n++;
	}
	cmp_ok($n, '>', 0, "$name: there are profiles");
	is(scalar(@wrong), 0, "$name: the last message of each of $n is what get_profile() says") or diag(join("\n", grep { defined } @wrong[ 0 .. 3 ]));
	is(join(' ', grep { $last{$_} ne '-' } keys %last), '', "$name: and there is no other customer");
}

# Documents by their customers, without metrics over windows: those are as of the delivery.
sub without_windows
{
	my ($documents) = @_;
	return { map { $_ => $documents->{$_} =~ s/"(?:transactionCount30d|totalTransactionValue30d|loginCount7d)": [^,}]+//gr } keys %$documents };
}

# Passed tests when the last message of each customer has the document that a hash says, and no version is older than one before it.
sub ends_with
{
	my ($self, $documents, $name) = @_;
	my (%last, %versions, @back);

	foreach my $message ($self->messages)
	{
		my ($key, $value) = @$message[ 2, 3 ];
		my ($version) = $value =~ /"version" : (\d+),/;
		push @back, "$key: $version after $versions{$key}" if defined $version && $version < ($versions{$key} // 0);
		$versions{$key} = $version // 0;
		($last{$key}) = $value =~ /"profile" : (\{.*\})\}$/;
	}
	delete $last{$_} foreach grep { !defined $last{$_} } keys %last;
	is_deeply(without_windows(\%last), without_windows($documents), "$name: $self->{name} ends with the profiles");
	is(join(', ', @back), '', "$name: no version goes back in $self->{name}");
	return;
}

1;

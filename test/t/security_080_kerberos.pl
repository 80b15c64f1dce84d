# A Kafka that wants Kerberos, and a KDC: the server logs in from a keytab of its environment, gets new tickets by itself, and
# runs no kinit; and what a stream says where there is no keytab, or one of a principal that is gone.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use IPC::Run ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use ProfileStream::Broker;
use ProfileStream::Node qw(events);
use Test::More;
use Time::HiRes qw(usleep);

plan skip_all => 'no Kafka: set KAFKA_HOME' unless ProfileStream::Broker::available();

$ENV{PATH} .= ':/usr/sbin';
my $dir = PostgreSQL::Test::Utils::tempdir('kerberos');
my $port = PostgreSQL::Test::Cluster::get_free_port();

sub write_file
{
	my ($name, $text) = @_;
	open(my $handle, '>', "$dir/$name") or die "could not write $name: $!";
	print $handle $text;
	close($handle);
	return "$dir/$name";
}

sub run
{
	my ($out, $err);
	IPC::Run::run([@_], '<', \'', '>', \$out, '2>', \$err) or die "@_: $out$err";
}

# tickets live for some seconds only
$ENV{KRB5_CONFIG} = write_file('krb5.conf', <<"END");
[libdefaults]
default_realm = BANK.TEST
dns_lookup_kdc = false
dns_lookup_realm = false
dns_canonicalize_hostname = false
rdns = false
udp_preference_limit = 1
[realms]
BANK.TEST = {
	kdc = 127.0.0.1:$port
}
[domain_realm]
127.0.0.1 = BANK.TEST
END
$ENV{KRB5_KDC_PROFILE} = write_file('kdc.conf', <<"END");
[kdcdefaults]
kdc_listen = ""
kdc_tcp_listen = 127.0.0.1:$port
[realms]
BANK.TEST = {
	database_name = $dir/principal
	key_stash_file = $dir/stash
	acl_file = $dir/acl
	max_life = 8s
}
[logging]
kdc = FILE:$dir/kdc.log
END
run('kdb5_util', 'create', '-s', '-r', 'BANK.TEST', '-P', 'master');
foreach my $principal ('kafka/127.0.0.1', 'crm', 'gone')
{
	my $file = $principal =~ s/\W.*//r;
	run('kadmin.local', '-q', "addprinc -randkey $principal");
	run('kadmin.local', '-q', "ktadd -k $dir/$file.keytab $principal");
}
run('kadmin.local', '-q', 'delprinc -force gone');
my $kdc = IPC::Run::start([ 'krb5kdc', '-n' ], '<', \'', '>', "$dir/kdc.out", '2>&1');
END { $kdc->kill_kill if $kdc; }

# whoever runs kinit leaves a trace
my $trap = write_file('kinit', "#!/bin/sh\ntouch $dir/was_run\n");
chmod(0755, $trap);
$ENV{PATH} = "$dir:$ENV{PATH}";
run('kinit');
ok(unlink("$dir/was_run"), 'the trap for kinit works');

local $ENV{JAVA_TOOL_OPTIONS} = "-Djava.security.krb5.conf=$ENV{KRB5_CONFIG}";
my $broker = ProfileStream::Broker->new(
	topics => [ [ 'events', 1 ], [ 'changes', 1 ] ],
	listeners => {
		KERBEROS => { protocol => 'SASL_PLAINTEXT', settings => { 'sasl.enabled.mechanisms' => 'GSSAPI', 'sasl.kerberos.service.name' => 'kafka', 'connections.max.reauth.ms' => 3000,
				'gssapi.sasl.jaas.config' => "com.sun.security.auth.module.Krb5LoginModule required useKeyTab=true storeKey=true isInitiator=false keyTab=\"$dir/kafka.keytab\" principal=\"kafka/127.0.0.1\@BANK.TEST\";" } },
	});
my $at = 0;
$ENV{KRB5CCNAME} = 'MEMORY:';
$ENV{KRB5_CLIENT_KTNAME} = "FILE:$dir/crm.keytab";
my $node = ProfileStream::Node->start_new('main');

sub runs
{
	my ($what) = @_;
	$broker->produce('events', events(\$at, 5));
	ok($node->poll_query_until('postgres', "SELECT state = 'running' AND applied = $at FROM profile_stream.stat_streams"), $what)
	  or diag($node->sql('SELECT state, error, hint, applied FROM profile_stream.stat_streams'), slurp_file("$dir/kdc.log"));
}

# How many tickets the KDC has issued.
sub issued { return scalar(() = slurp_file("$dir/kdc.log") =~ /AS_REQ.*ISSUE/g); }

# Starts the server with another keytab.
sub restart
{
	my ($keytab) = @_;
	$ENV{KRB5_CLIENT_KTNAME} = "FILE:$dir/$keytab.keytab";
	$node->restart;
}

$node->sql("CREATE SERVER ledger FOREIGN DATA WRAPPER profile_stream_kafka OPTIONS (bootstrap_servers '" . $broker->listener('KERBEROS') . "', \"security.protocol\" 'SASL_PLAINTEXT', \"sasl.mechanism\" 'GSSAPI')");
$node->sql('CREATE ROLE crm LOGIN IN ROLE profile_stream_operator', 'GRANT USAGE ON FOREIGN SERVER ledger TO crm');
$node->sql("SET ROLE crm; SELECT profile_stream.create_stream('crm', server => 'ledger', topic => 'events', changelog_topic => 'changes')");
runs('a role with USAGE reads with the ticket of the server');
ok($node->wait_sink('crm', 'delivered > 0 AND backlog = 0', 'changelog'), 'and writes');
my $pid = $node->stream_pid('crm');
my $before = issued();
# the broker closes what did not log in again, and each log-in needs a ticket that has not ended
for (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
{
	last if issued() >= $before + 2;
	usleep(100_000);
}
cmp_ok(issued(), '>=', $before + 2, 'tickets end, and new ones are issued');
runs('the stream goes on');
is($node->stream_pid('crm'), $pid, 'by the same process');

# who owns the server could send the log-in elsewhere
$node->sql('GRANT USAGE ON FOREIGN DATA WRAPPER profile_stream_kafka TO crm', 'ALTER SERVER ledger OWNER TO crm');
$node->fails_like("SET ROLE crm; ALTER SERVER ledger OPTIONS (SET bootstrap_servers '127.0.0.1:1')", qr/option "sasl.mechanism" is not allowed here.*superuser/s, 'a server of somebody else cannot be altered');
$node->fails_like("SELECT profile_stream.test_connection('ledger', 'events')", qr/option "sasl.mechanism" is not allowed here/, 'or used');
$node->sql('ALTER SERVER ledger OWNER TO postgres', 'GRANT USAGE ON FOREIGN SERVER ledger TO crm');

foreach my $keytab ('missing', 'gone')
{
	restart($keytab);
	ok($node->poll_query_until('postgres', "SELECT state = 'retrying' AND error ~ 'GSSAPI' AND hint ~ 'KRB5_CLIENT_KTNAME' FROM profile_stream.stat_streams"), "$keytab: the stream says what is wrong")
	  or diag($node->sql('SELECT state, error, hint FROM profile_stream.stat_streams'));
}
restart('crm');
runs('with the keytab it goes on');
ok(!-e "$dir/was_run", 'nobody has run kinit');

$node->stop('fast');
$broker->stop;
done_testing();

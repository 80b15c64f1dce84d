# A Kafka that asks who comes: TLS, certificates of both sides, PLAIN, SCRAM and OAUTHBEARER; secrets and tokens in files,
# which are read anew; and what a stream says when the password, the certificate or the token is wrong.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use IPC::Run ();
use MIME::Base64 qw(encode_base64);
use PostgreSQL::Test::Utils;
use ProfileStream::Broker;
use ProfileStream::Node qw(events);
use Test::More;
use Time::HiRes qw(usleep);

plan skip_all => 'no Kafka: set KAFKA_HOME' unless ProfileStream::Broker::available();

my $dir = PostgreSQL::Test::Utils::tempdir('logins');

sub openssl
{
	my ($out, $err);
	IPC::Run::run([ 'openssl', @_ ], '>', \$out, '2>', \$err) or die "openssl @_: $err";
}

sub write_file
{
	my ($name, @lines) = @_;
	open(my $handle, '>', "$dir/$name.new") or die "could not write $name: $!";
	print $handle @lines;
	close($handle);
	rename("$dir/$name.new", "$dir/$name");
	return "$dir/$name";
}

# An authority; and a key with a certificate of it in one file. Kafka wants PEM, the key first.
sub authority
{
	my ($name) = @_;
	openssl(qw(req -x509 -newkey rsa:2048 -nodes -days 2), '-subj', "/CN=$name", '-keyout', "$dir/$name.key", '-out', "$dir/$name.pem");
}

sub certificate
{
	my ($name, $authority, @dates) = @_;
	my $extensions = write_file("$name.ext", "subjectAltName=IP:127.0.0.1\n");

	openssl(qw(req -newkey rsa:2048 -nodes), '-subj', "/CN=$name", '-keyout', "$dir/$name.key", '-out', "$dir/$name.csr");
	write_file("$authority.index", '');
	write_file("$authority.conf", "[ca]\ndefault_ca=it\n[it]\ndatabase=$dir/$authority.index\nnew_certs_dir=$dir\nrand_serial=yes\n",
		"policy=any\ndefault_md=sha256\nunique_subject=no\n[any]\ncommonName=supplied\n");
	openssl('ca', '-batch', '-notext', '-config', "$dir/$authority.conf", '-cert', "$dir/$authority.pem", '-keyfile', "$dir/$authority.key",
		'-extfile', $extensions, '-in', "$dir/$name.csr", '-out', "$dir/$name.pem", @dates ? @dates : ('-days', 2));
	write_file("$name.both", slurp_file("$dir/$name.key"), slurp_file("$dir/$name.pem"));
}

authority($_) foreach qw(ours theirs);
certificate('broker', 'ours');
certificate('expired', 'ours', '-startdate', '20200101000000Z', '-enddate', '20200201000000Z');
certificate('client', 'ours');
certificate('stranger', 'theirs');

my %tls = ('ssl.keystore.type' => 'PEM', 'ssl.keystore.location' => "$dir/broker.both");
my $jaas = 'org.apache.kafka.common.security';
my $plain_listener = { protocol => 'SASL_SSL', settings => { %tls, 'sasl.enabled.mechanisms' => 'PLAIN',
		'plain.sasl.jaas.config' => "$jaas.plain.PlainLoginModule required user_crm=\"sesame-first\";" } };
my $broker = ProfileStream::Broker->new(
	topics => [ [ 'events', 1 ], [ 'changes', 1 ] ],
	scram => ['SCRAM-SHA-512=[name=crm,password=sesame-scrambled]'],
	listeners => {
		PLAIN => $plain_listener,
		SCRAM => { protocol => 'SASL_SSL', settings => { %tls, 'sasl.enabled.mechanisms' => 'SCRAM-SHA-512',
				'scram-sha-512.sasl.jaas.config' => "$jaas.scram.ScramLoginModule required;" } },
		TOKEN => { protocol => 'SASL_SSL', settings => { %tls, 'sasl.enabled.mechanisms' => 'OAUTHBEARER', 'connections.max.reauth.ms' => 3000,
				'oauthbearer.sasl.jaas.config' => "$jaas.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub=\"broker\";" } },
		MUTUAL => { protocol => 'SSL', settings => { %tls, 'ssl.client.auth' => 'required', 'ssl.truststore.type' => 'PEM',
				'ssl.truststore.location' => "$dir/ours.pem" } },
		EXPIRED => { protocol => 'SSL', settings => { %tls, 'ssl.keystore.location' => "$dir/expired.both" } },
	});
my $node = ProfileStream::Node->start_new('main');
my $at = 0;

# A token as an issuer makes it, that ends in so many seconds; Kafka takes one without a signature here.
sub token
{
	my ($seconds) = @_;
	my $now = time();
	my @parts = map { s/=+$//r =~ tr{+/}{-_}r } map { encode_base64($_, '') }
	  '{"alg":"none"}', qq({"sub":"crm","iat":@{[$now - 5]},"exp":@{[$now + $seconds]}});
	return "$parts[0].$parts[1].";
}

# A stream named for its server, which has these options.
sub stream
{
	my ($name, $listener, $protocol, %options) = @_;
	my $all = join(', ', "bootstrap_servers '" . $broker->listener($listener) . "'", "\"security.protocol\" '$protocol'",
		map { "\"$_\" '$options{$_}'" } sort keys %options);

	$node->sql("CREATE SERVER $name FOREIGN DATA WRAPPER profile_stream_kafka OPTIONS ($all)",
		"SELECT profile_stream.create_stream('$name', server => '$name', topic => 'events', group_id => '$name', reorder_wait => '0')");
}

sub runs
{
	my ($name, $what) = @_;
	my $from = $at;
	$broker->produce('events', events(\$at, 5));
	ok($node->poll_query_until('postgres', "SELECT state = 'running' AND applied + duplicates = $at FROM profile_stream.stat_streams WHERE stream = '$name'"), $what)
	  or diag($node->sql('SELECT stream, state, error, applied, duplicates FROM profile_stream.stat_streams'));
}

sub says
{
	my ($name, $pattern, $what) = @_;
	ok($node->poll_query_until('postgres', "SELECT state = 'retrying' AND error ~* '$pattern' AND hint <> '' FROM profile_stream.stat_streams WHERE stream = '$name'"), $what)
	  or diag($node->sql("SELECT state, error, hint FROM profile_stream.stat_streams WHERE stream = '$name'"));
	$node->sql("SELECT profile_stream.drop_stream('$name')", "DROP SERVER $name CASCADE");
}

my %ca = ('ssl.ca.location' => "$dir/ours.pem");

# the password is in a file of the server's owner
my $password = write_file('password', "sesame-first\n");
$node->sql("CREATE SERVER plain FOREIGN DATA WRAPPER profile_stream_kafka OPTIONS (bootstrap_servers '" . $broker->listener('PLAIN') . "', \"security.protocol\" 'SASL_SSL',"
	  . " \"ssl.ca.location\" '$dir/ours.pem', \"sasl.password_file\" '$password')",
	"CREATE USER MAPPING FOR postgres SERVER plain OPTIONS (\"sasl.username\" 'crm')",
	"SELECT profile_stream.create_stream('plain', server => 'plain', topic => 'events', changelog_topic => 'changes')");
runs('plain', 'PLAIN over TLS, with the password in a file');
ok($node->wait_sink('plain', 'delivered = 5 AND backlog = 0', 'changelog'), 'and its relay');

# the password changes at the broker, and then in the file
$broker->stop;
{
	my $settings = slurp_file("$broker->{dir}/server.properties") =~ s/user_crm="sesame-first"/user_crm="sesame-second"/r;
	open(my $handle, '>', "$broker->{dir}/server.properties") or die $!;
	print $handle $settings;
}
$broker->start;
ok($node->poll_query_until('postgres', "SELECT state = 'retrying' AND error ~* 'authentication' AND hint ~ 'file of the password' FROM profile_stream.stat_streams"), 'the old password is refused');
$node->sql(q(SELECT profile_stream.apply_event('{"eventId": "more", "customerId": "other", "eventType": "noop", "timestamp": "2026-01-01"}')));
ok($node->wait_sink('plain', "error ~* 'authentication'", 'changelog'), 'its relay says so too');
write_file('password', "sesame-second\n");
runs('plain', 'the new one is read from the file, without a change of the server');
ok($node->wait_sink('plain', 'delivered >= 10 AND backlog = 0', 'changelog'), 'by its relay too');
unlink($password);
$node->restart;
ok($node->poll_query_until('postgres', "SELECT state = 'retrying' AND error ~ 'could not read the file of option \"sasl.password_file\"' FROM profile_stream.stat_streams"),
	'a file that is gone is told of');
unlike($node->sql('SELECT error, hint FROM profile_stream.stat_streams'), qr/\Q$dir\E/, 'without its path');
write_file('password', 'sesame-second');
runs('plain', 'and read when it is back');
$node->sql("SELECT profile_stream.drop_stream('plain')");

# who may name files
$node->sql('CREATE ROLE crm LOGIN IN ROLE profile_stream_operator', 'GRANT USAGE ON FOREIGN SERVER plain TO crm');
foreach my $option ('sasl.password_file', 'sasl.username_file', 'ssl.key.password_file', 'sasl.oauthbearer.token_file')
{
	$node->fails_like("SET ROLE crm; CREATE USER MAPPING FOR crm SERVER plain OPTIONS (\"$option\" '/etc/passwd')",
		qr/option "$option" is not allowed here.*pg_read_server_files/s, "$option is for those who read files");
}
$node->fails_like("CREATE USER MAPPING FOR crm SERVER plain OPTIONS (\"sasl.password_file\" 'passwd')", qr/must be absolute/, 'a relative path');
$node->fails_like("CREATE SERVER bad FOREIGN DATA WRAPPER profile_stream_kafka OPTIONS (bootstrap_servers 'x', \"sasl.password_file\" '/dev/zero');"
	  . "SELECT profile_stream.create_stream('bad', server => 'bad', topic => 'x')", qr/the file of option "sasl.password_file" is no file/, 'what is no file');

# SCRAM
my $scrambled = write_file('scrambled', 'sesame-scrambled');
my $name = write_file('name', "crm\r\n");
my %scram = (%ca, 'sasl.mechanism' => 'SCRAM-SHA-512', 'sasl.username_file' => $name);
stream('scram', 'SCRAM', 'SASL_SSL', %scram, 'sasl.password_file' => $scrambled);
# librdkafka before 2.6.1 does not do what Kafka 4 demands
my ($major, $minor, $patch) = split(/\./, $node->sql("SELECT profile_stream.version() ->> 'librdkafka'"));
if ($major * 10000 + $minor * 100 + $patch < 20601)
{
	ok($node->poll_query_until('postgres', "SELECT hint ~ 'use 2\\.6\\.1 or later' FROM profile_stream.stat_streams WHERE stream = 'scram'"),
		'SCRAM with an old librdkafka: the hint names the version that can');
}
else
{
	runs('scram', 'SCRAM over TLS');
}
stream('wrong', 'SCRAM', 'SASL_SSL', %scram, 'sasl.password_file' => $password);
says('wrong', 'authentication', 'a wrong password');

# OAUTHBEARER: the broker closes what did not log in again, and the token ends every few seconds
my $token = write_file('token', token(8));
my %oauth = (%ca, 'sasl.mechanism' => 'OAUTHBEARER', 'sasl.oauthbearer.extensions' => 'logicalCluster=lkc-1,identityPoolId=pool-2');
stream('token', 'TOKEN', 'SASL_SSL', %oauth, 'sasl.oauthbearer.token_file' => $token);
runs('token', 'OAUTHBEARER over TLS');
my $pid = $node->stream_pid('token');
for (1 .. 24)
{
	write_file('token', token(8));
	usleep(500_000);
}
runs('token', 'a token that is renewed in its file');
is($node->stream_pid('token'), $pid, 'by the same process');
write_file('ended', token(-60));
stream('ended', 'TOKEN', 'SASL_SSL', %oauth, 'sasl.oauthbearer.token_file' => "$dir/ended");
says('ended', 'token|lifetime|expired', 'a token that has ended');
write_file('garbled', 'no token at all');
stream('garbled', 'TOKEN', 'SASL_SSL', %oauth, 'sasl.oauthbearer.token_file' => "$dir/garbled");
says('garbled', 'authentication|token', 'a garbled token');

# certificates
my %mine = ('ssl.certificate.location' => "$dir/client.pem", 'ssl.key.location' => "$dir/client.key");
stream('mutual', 'MUTUAL', 'SSL', %ca, %mine);
runs('mutual', 'certificates of both sides');
stream('nobody', 'MUTUAL', 'SSL', %ca);
says('nobody', 'ssl|certificate', 'no certificate where the broker wants one');
stream('stranger', 'MUTUAL', 'SSL', %ca, 'ssl.certificate.location' => "$dir/stranger.pem", 'ssl.key.location' => "$dir/stranger.key");
says('stranger', 'ssl|certificate', 'a certificate of another authority');
stream('unknown', 'MUTUAL', 'SSL', %mine, 'ssl.ca.location' => "$dir/theirs.pem");
says('unknown', 'certificate verify failed', 'a broker of another authority');
stream('expired', 'EXPIRED', 'SSL', %ca);
says('expired', 'certificate.*(expired|verify failed)', 'an expired certificate of the broker');

# nothing of it is in the log or in a view
my $log = slurp_file($node->logfile);
unlike($log, qr/sesame|eyJ/, 'no secret in the log');
done_testing();

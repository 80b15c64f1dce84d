# Redis with TLS, by each sslmode, with and without a client certificate. What is wrong with a certificate is said. A stream
# delivers through it as without: large batches, a Redis that freezes, and one that is killed.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use ProfileStream::Node;
use ProfileStream::Redis;
use Test::More;

my $dir = PostgreSQL::Test::Utils::tempdir_short();
my $node = ProfileStream::Node->start_new('main');
my $wrapper = 'FOREIGN DATA WRAPPER profile_stream_redis';
my ($rc, $out, $err) = $node->psql('postgres', "CREATE SERVER s $wrapper OPTIONS (host 'a', sslmode 'require')");
if ($rc != 0)
{
	like($err, qr/this build of profile_stream has no TLS for Redis.*HINT:  Install the headers of OpenSSL/s, 'a build without TLS says so');
	$node->stop('fast');
	done_testing();
	exit;
}

# Makes a key and a certificate, of an authority or of itself.
sub certificate
{
	my ($name, $authority, @more) = @_;
	system_or_bail('openssl', 'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2', '-subj', "/CN=$name",
		'-keyout', "$dir/$name.key", '-out', "$dir/$name.crt", $authority ? ('-CA', "$dir/$authority.crt", '-CAkey', "$dir/$authority.key") : (), @more);
	chmod(0644, "$dir/$name.key");
}
certificate('root');
certificate('other');
certificate('redis.test', 'root', '-addext', 'basicConstraints=critical,CA:FALSE', '-addext', 'subjectAltName=DNS:redis.test');
certificate('client', 'root', '-addext', 'basicConstraints=critical,CA:FALSE');
chmod(0755, $dir);

# A Redis whose port takes TLS alone; the socket stays for the test.
sub secured
{
	my ($clients) = @_;
	my $port = PostgreSQL::Test::Cluster::get_free_port();
	my $redis = ProfileStream::Redis->new(port => 0, 'tls-port' => $port, 'tls-cert-file' => "$dir/redis.test.crt", 'tls-key-file' => "$dir/redis.test.key",
		'tls-ca-cert-file' => "$dir/root.crt", 'tls-auth-clients' => $clients);
	$redis->{tls} = $port;
	return $redis;
}
my $redis = secured('no');
my $strict = secured('yes');
my $plain = ProfileStream::Redis->new;
my $n = 0;

# Makes a server with these options, and tries it.
sub try
{
	my ($port, $options) = @_;
	$n++;
	my ($rc, $out, $err) = $node->psql('postgres', "CREATE SERVER s$n $wrapper OPTIONS (host '127.0.0.1', port '$port'$options); SELECT profile_stream.test_redis('s$n')");
	return $rc == 0 ? 'works' : $err;
}

my $root = ", sslrootcert '$dir/root.crt'";
my $client = ", sslcert '$dir/client.crt', sslkey '$dir/client.key'";
foreach my $case (
	[ $redis, ", sslmode 'require'", qr/^works$/ ],
	[ $redis, ", sslmode 'require'$root", qr/^works$/ ],
	[ $redis, ", sslmode 'require', sslrootcert '$dir/other.crt'", qr/could not make a TLS connection to Redis: certificate verify failed: .*HINT/s ],
	[ $redis, ", sslmode 'verify-ca'$root", qr/^works$/ ],
	[ $redis, ", sslmode 'verify-ca'", qr/certificate verify failed/ ],
	[ $redis, ", sslmode 'verify-full'$root", qr/certificate verify failed: IP address mismatch/ ],
	[ $redis, ", sslmode 'verify-full'$root, sslservername 'redis.test'", qr/^works$/ ],
	[ $redis, ", sslmode 'verify-full'$root, sslservername 'other.test'", qr/certificate verify failed: hostname mismatch/i ],
	[ $redis, ", sslmode 'verify-ca', sslrootcert '/nowhere.crt'", qr/could not load sslrootcert: No such file.*HINT/s ],
	[ $redis, ", sslmode 'disable'", qr/lost the connection to Redis/ ],
	[ $strict, ", sslmode 'verify-ca'$root", qr/Redis: .*certificate required|closed the connection|reset by peer/ ],
	[ $strict, ", sslmode 'verify-ca'$root$client", qr/^works$/ ],
	[ $strict, ", sslmode 'verify-ca'$root, sslcert '$dir/client.crt', sslkey '$dir/root.key'", qr/could not load sslkey/ ],
	[ $plain, ", sslmode 'require'", qr/could not make a TLS connection to Redis: .*HINT:  Check the options ssl/s ])
{
	my ($to, $options, $pattern) = @$case;
	like(try($to->{tls} // $to->{port}, $options), $pattern, $options =~ s/\Q$dir\E//gr);
}
$node->sql("CREATE ROLE maker; GRANT USAGE ON FOREIGN DATA WRAPPER profile_stream_redis TO maker");
$node->fails_like("SET ROLE maker; CREATE SERVER m $wrapper OPTIONS (host 'a', sslrootcert '/etc/passwd')", qr/permission denied to set option "sslrootcert".*HINT/s, 'a file of the server');
is(($node->psql('postgres', "GRANT pg_read_server_files TO maker; SET ROLE maker; CREATE SERVER m $wrapper OPTIONS (host 'a', sslrootcert '/root.crt')"))[0], 0, 'by a role that reads such files');

# a stream
my $begin = $node->sql('SELECT now()');
$node->sql("CREATE SERVER cache $wrapper OPTIONS (host '127.0.0.1', port '$strict->{tls}', sslmode 'verify-full', sslservername 'redis.test'$root$client)");
$node->sql("SELECT profile_stream.create_stream('crm', bootstrap_servers => '127.0.0.1:1', redis => 'cache', redis_ttl => '1 day')");
sub apply
{
	my ($from, $to) = @_;
	return $node->sql(<<"END");
SELECT DISTINCT unnest(profile_stream.apply_events(array_agg(jsonb_build_object('eventId', 'e' || i, 'customerId', 'c' || i % 3000, 'eventType', 'customer.profile.updated',
	'payload', jsonb_build_object('firstName', repeat('x', 2000)), 'timestamp', '2026-01-01T00:00:00Z')))) FROM generate_series($from, $to) i
END
}
is(apply(1, 3000), 'applied', 'events');
$strict->equals_profiles($node, 'crm', $begin, 'delivered');
$strict->freeze;
is(apply(3001, 6000), 'applied', 'frozen: events');
ok($node->wait_sink('crm', "state = 'retrying' AND error LIKE '%no answer within%'"), 'frozen: the sink says so');
$strict->thaw;
$strict->equals_profiles($node, 'crm', $begin, 'thawed');
$strict->restart;
$node->sql("SELECT profile_stream.resync_sink('crm', 'redis')");
$strict->equals_profiles($node, 'crm', $begin, 'killed and refilled');

$node->is_clean('end');
$node->stop('fast');
done_testing();

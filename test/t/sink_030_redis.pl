# Writes to Redis. An older version never replaces a newer one, and a connection that was given up writes nothing. Each
# error of Redis is reported as such, without secrets. No wait exceeds its limit or keeps a session from ending.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Utils;
use ProfileStream::Node;
use ProfileStream::Redis;
use Test::More;

my $node = ProfileStream::Node->start_new('main');
my $redis = ProfileStream::Redis->new;
my $address = $redis->address;
$node->safe_psql('postgres', slurp_file("$FindBin::RealBin/../functions.sql"));

sub document
{
	my ($id, $version) = @_;
	return qq({"email": "\\"version\\": 99", "version": $version, "customerId": "$id", "eventCounts": {"version": 77}});
}

# SQL that writes [customer, version, document] rows; without a document it deletes.
sub writing
{
	my ($to, @rows) = @_;
	my $ids = join(', ', map { "'$_->[0]'" } @rows);
	my $versions = join(', ', map { $_->[1] } @rows);
	my $documents = join(', ', map { defined $_->[2] ? "'$_->[2]'" : 'NULL' } @rows);
	return "SELECT array_to_string(testing.redis_write('$to', 'profile:', 300, ARRAY[$ids], ARRAY[$versions]::bigint[], ARRAY[$documents]::text[]), ' ')";
}

# Writes rows of customer => version.
sub put
{
	my ($to, %versions) = @_;
	return $node->safe_psql('postgres', writing($to, map { [ $_, $versions{$_}, document($_, $versions{$_}) ] } sort keys %versions));
}

foreach my $to ($address, $redis->socket)
{
	is(put($to, a => 5, b => 1), 'written written', "$to: written");
	is($redis->command('GET', 'profile:a'), document('a', 5), 'as it is');
	cmp_ok($redis->command('TTL', 'profile:a'), '>', 200, 'for a while');
	is(put($to, a => 4, b => 2), 'newer written', 'an older version is not');
	is($redis->command('GET', 'profile:a'), document('a', 5), 'the newer one stays');
	is(put($to, a => 5), 'written', 'the same version is');
	is($node->safe_psql('postgres', writing($to, [ 'a', 6, undef ], [ 'c', 1, undef ])), 'written written', 'deleted');
	is($redis->command('EXISTS', 'profile:a'), '0', 'it is gone');
	is($redis->command('DEL', 'profile:b'), '1', 'the other was left alone');
}

# more than a socket takes at once
my $many = $node->safe_psql('postgres', <<"END");
SELECT r, count(*) FROM unnest(testing.redis_write('$address', 'many:', 300,
	(SELECT array_agg('c' || i ORDER BY i) FROM generate_series(1, 20000) i), (SELECT array_agg(i::bigint) FROM generate_series(1, 20000) i),
	(SELECT array_agg(jsonb_build_object('version', i, 'text', repeat('x', 1000))::text) FROM generate_series(1, 20000) i))) r GROUP BY r
END
is($many, 'written|20000', 'a long pipeline');
is($redis->command('EVAL', "return #redis.call('KEYS', 'many:*')", 0), '20000', 'all of it is there');

# a key of another kind is its own trouble
$redis->command('HSET', 'profile:h', 'f', 'v');
is(put($address, g => 1, h => 1, i => 1), 'written foreign written', 'a key that is not ours stays, the others are written');
is($redis->command('HGET', 'profile:h', 'f'), 'v', 'with what it has');

# a frozen Redis
my $write = writing($address, [ 'late', 7, document('late', 7) ]);
$redis->freeze;
$node->fails_like($write, qr/lost the connection to Redis: no answer within 5 s\nHINT/, 'a frozen Redis');
$redis->thaw;

# a connection whose token is not the last one writes nothing; the script is the one of the source
$redis->command('SCRIPT', 'FLUSH');
is(put($address, a => 1), 'written', 'a script that was removed is loaded again');
my $token = $redis->command('GET', 'profile_stream:test');
my ($script) = slurp_file("$FindBin::RealBin/../../src/sink/redis_client.c") =~ /script\[\] =\n(.*?);\n/s;
$script = join("\n", map { s/\\"/"/gr } $script =~ /^"(.*)\\n"/mg);
like($redis->command('EVAL', $script, 2, 'profile:z', 'profile_stream:test', 'stale', 1, 300, document('z', 1)), qr/FENCED/, 'a stale token is refused');
is($redis->command('EVAL', $script, 2, 'profile:z', 'profile_stream:test', $token, 1, 300, document('z', 1)), '1', 'the last one is not');

# SIGTERM reaches a session that waits
$redis->freeze;
my $session = $node->background_psql('postgres', on_error_stop => 0);
my $pid = $session->query('SELECT pg_backend_pid()');
$session->{stdin} .= "$write;\n";
$session->{run}->pump_nb;
ok($node->poll_query_until('postgres', "SELECT wait_event_type = 'Extension' FROM pg_stat_activity WHERE pid = $pid"), 'a session waits for Redis');
$node->safe_psql('postgres', "SELECT pg_terminate_backend($pid)");
ok($node->poll_query_until('postgres', "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $pid"), 'and ends while Redis is frozen');
$session->{run}->kill_kill;
$redis->thaw;

# what Redis refuses
sub refused
{
	my ($to, $pattern, $name) = @_;
	$node->fails_like(writing($to, [ 'r', 1, document('r', 1) ]), $pattern, $name);
}
$redis->command('CONFIG', 'SET', 'maxmemory', '1');
refused($address, qr/OOM command not allowed.*HINT:  Redis is out of memory/s, 'no memory');
$redis->command('CONFIG', 'SET', 'maxmemory', '0');
$redis->command('REPLICAOF', '127.0.0.1', '1');
refused($address, qr/READONLY.*HINT:  This Redis is a replica/s, 'a replica');
$redis->command('REPLICAOF', 'NO', 'ONE');
$node->fails_like("SELECT profile_stream.test_redis('127.0.0.1:1')", qr/could not connect to Redis: Connection refused\nHINT/, 'nothing there');
$node->fails_like("SELECT profile_stream.test_redis('/nowhere.sock')", qr/could not connect to Redis: No such file/, 'no socket');
$node->fails_like("SELECT profile_stream.test_redis('localhost:http')", qr/invalid value for option "port"/, 'not a port');
is($node->safe_psql('postgres', "SELECT profile_stream.test_redis('$address')"), '', 'a connection that works');

# servers and user mappings, and passwords that appear nowhere
my $wrapper = 'FOREIGN DATA WRAPPER profile_stream_redis';
$node->safe_psql('postgres', <<"END");
CREATE ROLE crm LOGIN IN ROLE profile_stream_operator;
CREATE SERVER cache $wrapper OPTIONS (host '127.0.0.1', port '$redis->{port}', database '3');
END
$redis->command('ACL', 'SETUSER', 'writer', 'on', '>topsecret', '~*', '+@all');
$redis->command('CONFIG', 'SET', 'requirepass', 'mastersecret');
my $as_crm = "SET ROLE crm; SELECT profile_stream.test_redis('cache')";
$node->fails_like($as_crm, qr/permission denied for foreign server cache/, 'without USAGE');
$node->fails_like("SET ROLE crm; SELECT profile_stream.test_redis('$address')", qr/permission denied to give the address/, 'an address below superuser');
$node->safe_psql('postgres', 'GRANT USAGE ON FOREIGN SERVER cache TO crm');
$node->fails_like($as_crm, qr/NOAUTH Authentication required\.\nHINT:  Set username/, 'without a password');
$node->safe_psql('postgres', "CREATE USER MAPPING FOR crm SERVER cache OPTIONS (username 'writer', password 'wrongsecret')");
$node->fails_like($as_crm, qr/Redis refused AUTH: WRONGPASS\nHINT:  Correct/, 'with a wrong password');
$node->safe_psql('postgres', "ALTER USER MAPPING FOR crm SERVER cache OPTIONS (SET password 'topsecret')");
is($node->safe_psql('postgres', $as_crm), '', 'with the right one');
is($redis->command('--no-auth-warning', '-a', 'mastersecret', '-n', 3, 'EXISTS', 'profile_stream:test'), '1', 'in the database of the server');
foreach my $case (
	[ "CREATE SERVER s $wrapper", 'one of the options "host"' ],
	[ "CREATE SERVER s $wrapper OPTIONS (host 'a', unix_socket '/s')", 'one of the options "host"' ],
	[ "CREATE SERVER s $wrapper OPTIONS (host 'a', port '0')", 'invalid value for option "port"' ],
	[ "CREATE SERVER s $wrapper OPTIONS (host 'a', database '-1')", 'invalid value for option "database"' ],
	[ "CREATE SERVER s $wrapper OPTIONS (unix_socket 's')", 'invalid value for option "unix_socket"' ],
	[ "CREATE SERVER s $wrapper OPTIONS (host 'a', sslmode 'maybe')", 'invalid value for option "sslmode"' ],
	[ "CREATE SERVER s $wrapper OPTIONS (host 'a', sslrootcert 'root.crt')", 'invalid value for option "sslrootcert"' ],
	[ "CREATE SERVER s $wrapper OPTIONS (host 'a', sslcert '/c')", 'goes with sslkey' ],
	[ "CREATE SERVER s $wrapper OPTIONS (sentinels 'a:1')", 'goes with sentinels' ],
	[ "CREATE SERVER s $wrapper OPTIONS (sentinels 'a', sentinel_service 'm')", 'invalid value for option "sentinels"' ],
	[ "CREATE SERVER s $wrapper OPTIONS (sentinels 'a:1,:2', sentinel_service 'm')", 'invalid value for option "sentinels"' ],
	[ "CREATE SERVER s $wrapper OPTIONS (sentinels 'a:1', sentinel_service 'm', host 'b')", 'one of the options "host"' ],
	[ "CREATE SERVER s $wrapper OPTIONS (host 'a', password 'hiddensecret')", 'option "password" is not allowed here' ],
	[ "ALTER USER MAPPING FOR crm SERVER cache OPTIONS (ADD host 'hiddensecret')", 'option "host" is not allowed here' ],
	[ "SELECT profile_stream.test_redis('redis://:hiddensecret\@localhost:6379')", 'invalid value for option "redis"' ],
	[ "SELECT profile_stream.test_redis('unknown')", '"unknown" is not a Redis server' ])
{
	$node->fails_like($case->[0], qr/$case->[1].*HINT/s, $case->[0] =~ s/hiddensecret/.../r);
}
unlike(slurp_file($node->logfile) =~ s/^.*LOG:  statement.*$//mgr, qr/hiddensecret|wrongsecret|topsecret/, 'no secret is in the log');

$node->is_clean('end');
$node->stop('fast');
done_testing();

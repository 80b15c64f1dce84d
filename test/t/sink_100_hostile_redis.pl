# A server at the address of a Redis may answer anything. The number of bytes that are read is bounded, and only text is
# shown of them.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use IPC::Run ();
use PostgreSQL::Test::Utils;
use ProfileStream::Broker;
use ProfileStream::Node;
use Test::More;

my $node = ProfileStream::Node->start_new('main');
my $broker = ProfileStream::Broker->new(mock => 1, topics => [ [ 'events', 1 ] ]);

# Starts one of a kind; returns its address and what ends it.
sub hostile
{
	my ($kind) = @_;
	my $out = '';
	my $harness = IPC::Run::start([ ProfileStream::Broker::tool('hostile_redis.py'), $kind ], '<', \undef, '>', \$out);
	$harness->pump until $out =~ /^(\d+)\n/;
	return ("127.0.0.1:$1", $harness);
}

foreach my $case (
	[ 'bytes', qr/^Redis refused SCRIPT: ERR \?\? hostile|^Redis refused SCRIPT: ERR \?\?/m ],
	[ 'error', qr/Redis sent an answer without an end/ ],
	[ 'string', qr/Redis sent an answer without an end/ ],
	[ 'array', qr/Redis answered what was not asked/ ],
	[ 'nested', qr/Redis answered what was not asked/ ],
	[ 'push', qr/Redis answered what was not asked/ ])
{
	my ($address, $harness) = hostile($case->[0]);
	my ($rc, $out, $err) = $node->psql('postgres', <<"END");
DO \$\$
BEGIN
	PERFORM profile_stream.test_redis('$address');
EXCEPTION WHEN OTHERS THEN
	RAISE NOTICE '%', SQLERRM;
	IF octet_length(SQLERRM) > 300 OR SQLERRM ~ '[\\x01-\\x08\\x1b]' THEN RAISE NOTICE 'not text, or too long'; END IF;
END \$\$
END
	like($err =~ s/^.*?NOTICE:  //r, $case->[1], "$case->[0]: refused");
	unlike($err, qr/not text/, "$case->[0]: in text");
	$harness->kill_kill;
}

# a relay shows it, and it keeps nobody from being forgotten, nor a client of another encoding from reading it
my ($address, $harness) = hostile('bytes');
$node->create_stream('s', $broker, 'events', redis => "'$address'");
$node->sql(q(SELECT profile_stream.apply_event('{"eventId": "1", "customerId": "c-17", "eventType": "t", "timestamp": "2026-01-01"}')));
ok($node->poll_query_until('postgres', "SELECT error LIKE 'Redis refused%' FROM profile_stream.stat_sinks"), 'a relay shows the error');
is($node->sql('SELECT length(convert_to(error, \'UTF8\')) = octet_length(error), convert_from(convert_to(error, \'UTF8\'), \'UTF8\') = error FROM profile_stream_internal.sink_status'), 't|t', 'as valid text');
is($node->sql("SELECT profiles FROM profile_stream.forget_customer('c-17')"), 1, 'a customer can be forgotten');
my ($rc, $out, $err) = $node->psql('postgres', "SET client_encoding = 'LATIN1'; SELECT count(error) FROM profile_stream.stat_sinks");
is("$rc$out$err", '01', 'a client of another encoding can read it');
$node->sql("SELECT profile_stream.drop_stream('s')");
$harness->kill_kill;

$node->is_clean('end');
$node->stop;
$broker->stop;
done_testing();

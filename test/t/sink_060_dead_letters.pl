# The topic of dead letters, read by Kafka's own console consumer: key, value and headers of the message are untouched, and
# more headers give the reason. Also: letters that are repaired or discarded before delivery, and kills at each step.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use IPC::Run ();
use MIME::Base64;
use PostgreSQL::Test::Utils;
use ProfileStream::Broker;
use ProfileStream::Node;
use ProfileStream::Topic;
use Test::More;

plan skip_all => 'needs a Kafka (KAFKA_HOME)' unless ProfileStream::Broker::available();

my $broker = ProfileStream::Broker->new(topics => [ [ 'events', 2 ], [ 'dead', 2 ] ]);
my $node = ProfileStream::Node->start_new('main');
my $topic = ProfileStream::Topic->new($broker, 'dead');
my $taken = 0;

sub wait_sink { return $node->wait_sink('crm', $_[0], 'dead_letters'); }

sub produce
{
	my (@rows) = @_;
	$broker->produce('events', @rows);
	$taken += @rows;
	return $node->wait_taken('crm', $taken);
}

# Messages of the topic by [partition, offset] of the original, as lists of [key, value, headers].
sub letters
{
	my %letters;
	foreach my $message ($topic->messages)
	{
		my ($offset) = $message->[4] =~ /__connect\.errors\.offset=(\d+)/;
		my ($partition) = $message->[4] =~ /__connect\.errors\.partition=(\d+)/;
		push @{ $letters{"$partition/$offset"} }, [ @$message[ 2 .. 4 ] ];
	}
	return %letters;
}

$node->create_stream('crm', $broker, 'events', dead_letter_topic => "'dead'", dead_letter_pause_ratio => 1, late_tolerance => "'1 hour'");
my $event = '{"eventId":"%s","customerId":"c","eventType":"%s","timestamp":"%s","payload":{}}';
my @rows = (
	[ 0, 'k0', 'no JSON, {"a": "é"' ],
	[ 0, 'k1', '{"eventId":"e"}' ],
	[ 0, 'k2', sprintf($event, 'e2', 'transaction.completed', '2026-01-01T00:00:00Z') ],
	[ 0, 'k3', sprintf($event, 'e3', 'seen', '2026-01-01T12:00:00Z') ],
	[ 0, '', sprintf($event, 'e4', 'seen', '2026-01-01T10:00:00Z') ]);
ok(produce(@rows), 'taken');
ok(wait_sink("backlog = 0 AND delivered = 4 AND refused = 0"), 'delivered');

# by the console consumer, which prints headers as name:value
my $printed = '';
IPC::Run::run([ 'java', '-Xmx256m', '-cp', "$ENV{KAFKA_HOME}/libs/*", 'org.apache.kafka.tools.consumer.ConsoleConsumer', '--bootstrap-server', $broker->bootstrap,
		'--topic', 'dead', '--from-beginning', '--max-messages', 4, '--timeout-ms', 60_000, '--formatter-property', 'print.key=true',
		'--formatter-property', 'print.headers=true', '--formatter-property', 'key.separator=|', '--formatter-property', 'headers.separator=;' ],
	'<', File::Spec->devnull, '>', \$printed, '2>', \my $err);
my %printed = map { my ($headers, $key, $value) = split(/\|/, $_, 3); $key => [ $headers, $value ] } grep { /\|/ } split(/\n/, $printed);
is(join(' ', sort keys %printed), 'k0 k1 k2 null', 'the console consumer reads them') or diag($printed, $err);
my %stage = (k0 => [ 'VALIDATE', 'malformed' ], k1 => [ 'VALIDATE', 'invalid' ], k2 => [ 'HANDLER', 'handler' ], null => [ 'LATE', 'late' ]);
foreach my $i (0, 1, 2, 4)
{
	my ($key, $value) = ($rows[$i][1] || 'null', $rows[$i][2]);
	my ($headers, $read) = @{ $printed{$key} };
	is($read, $value, "$key: with its value");
	foreach my $header ('topic:events', 'partition:0', "offset:$i", 'connector.name:crm', "stage:$stage{$key}[0]", "exception.class.name:profile_stream.$stage{$key}[1]")
	{
		like($headers, qr/(^|;)__connect\.errors\.\Q$header\E(;|$)/, "$key: $header");
	}
}
like($printed{k1}[0], qr/__connect\.errors\.exception\.message:Missing customerId; Missing eventType; Missing timestamp;profile_stream\.errors:\["Missing customerId", "Missing eventType", "Missing timestamp"\];profile_stream\.dead_letter_id:\d+/, 'every error, as text and as JSON');

# headers of the original, and bytes that are no text
$node->safe_psql('postgres', <<'END');
INSERT INTO profile_stream_internal.dead_letters (stream_id, stream, topic, epoch, partition, kafka_offset, key, value, headers, kind, errors, dead_at)
	SELECT stream_id, name, topic, 0, 9, 1, '\x6b00ff', '\x0102', '[{"name": "trace", "value": "t1"}, {"name": "raw", "hex": "41424344"}, {"name": "none", "value": null}, {"name": "trace", "value": "t2"}]',
		'malformed', '{x}', now() FROM profile_stream.streams;
INSERT INTO profile_stream_internal.dead_letter_outbox SELECT max(dead_letter_id), max(stream_id) FROM profile_stream_internal.dead_letters;
END
ok(wait_sink('backlog = 0 AND delivered = 5'), 'one with headers is delivered');
my %letters = letters();
is($letters{'9/1'}[0][0] . '|' . $letters{'9/1'}[0][1], "k\0\xff|\1\2", 'its bytes are what they were');
like($letters{'9/1'}[0][2], qr/^trace=t1,raw=ABCD,none=-,trace=t2,__connect/, 'its headers come first');

# the topic is away: the stream goes on; letters that are repaired or discarded meanwhile are not delivered, the others are
$broker->delete_topic('dead');
ok(produce(map { [ 1, "d$_", "broken $_" ] } 0 .. 9), 'away: taken');
ok(wait_sink("state = 'retrying' AND error IS NOT NULL AND hint IS NOT NULL AND backlog = 10"), 'away: the sink says so');
is($node->stream_state('crm'), 'running', 'away: the stream is running');
$node->safe_psql('postgres', "SELECT profile_stream.pause_stream('crm')");
ok($node->poll_query_until('postgres', "SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'profile_stream relay'"), 'away: paused, with nothing on its way');
$node->safe_psql('postgres', "SELECT profile_stream.discard_dead_letters(ids => (SELECT array_agg(dead_letter_id) FROM profile_stream.dead_letters WHERE key IN ('d0', 'd1')));"
	  . " SELECT profile_stream.retry_dead_letters(kind => 'malformed'); SELECT profile_stream.resume_stream('crm')");
$broker->create_topic('dead', 2);
ok(wait_sink("state = 'running' AND backlog = 0"), 'back: delivered');
%letters = letters();
is(join(' ', sort map { $_->[0][0] } values %letters), join(' ', map { "d$_" } 2 .. 9), 'back: those that are left');
is(scalar(grep { @$_ > 1 } values %letters), 0, 'back: once');
$node->safe_psql('postgres', 'SELECT profile_stream.discard_dead_letters()');

# one that no topic takes does not hold up the others
$broker->set_settings('dead', 'max.message.bytes' => 5_000);
ok(produce([ 1, 'huge', 'x' x 20_000 ], map { [ 1, "f$_", "broken $_" ] } 0 .. 19), 'too large: taken');
ok(wait_sink("backlog = 0 AND refused = 1 AND state = 'running'"), 'too large: refused and counted, the others are delivered');
$broker->set_settings('dead', 'max.message.bytes' => 1_000_000);
is($node->safe_psql('postgres', "SELECT profile_stream.resync_sink('crm', 'dead_letters')"), 21, 'refilled');
ok(wait_sink('backlog = 0'), 'and delivered');
%letters = letters();
is(scalar(grep { $_->[0][0] =~ /^(huge|f\d+)$/ } values %letters), 21, 'all of them');

# the server killed at each step of the relay: none is lost
foreach my $step ('relay_before_send', 'relay_before_commit', 'relay_after_send', 'relay_after_delete')
{
	my $from = -s $node->logfile;
	$node->set_failpoint("$step:kill");
	$broker->produce('events', map { [ 0, "$step$_", "broken $_" ] } 0 .. 4);
	$taken += 5;
	ok($node->wait_for_log(qr/was terminated by signal 9/, $from), "$step: killed");
	$node->set_failpoint('');
	$node->wait_alive;
	ok($node->wait_taken('crm', $taken), "$step: taken");
	ok(wait_sink("backlog = 0"), "$step: delivered");
	my %found = map { $_->[2] => 1 } $topic->messages;
	is(scalar(grep { $found{"$step$_"} } 0 .. 4), 5, "$step: all of them");
}
$node->{expected_signals} = () = slurp_file($node->logfile) =~ /\(PID \d+\) was terminated by signal 9/g;

# without a topic
$node->safe_psql('postgres', "SELECT profile_stream.discard_dead_letters()");
my $before = () = $topic->messages;
$node->safe_psql('postgres', "SELECT profile_stream.pause_stream('crm')");
ok($node->wait_stopped('crm'), 'paused');
$node->safe_psql('postgres', "SELECT profile_stream.alter_stream('crm', dead_letter_topic => ''); SELECT profile_stream.resume_stream('crm')");
ok(produce([ 0, 'none', 'broken' ]), 'without a topic: taken');
is($node->safe_psql('postgres', 'SELECT (SELECT count(*) FROM profile_stream.dead_letters), (SELECT count(*) FROM profile_stream_internal.dead_letter_outbox), (SELECT count(*) FROM profile_stream.stat_sinks)'),
	'1|0|0', 'without a topic: it is in the table alone');
is(scalar(() = $topic->messages), $before, 'and the topic is as it was');
$node->is_clean('end');
$node->stop('fast');
$broker->stop;
done_testing();

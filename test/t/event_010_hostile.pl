# Hostile messages come through a real Kafka. Each becomes a dead letter that keeps its bytes and gives the reason, the
# next event is applied, and the worker survives. PS_SEED changes the random bytes.

use strict;
use warnings;

use Digest::MD5 qw(md5_hex);
use FindBin;
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Utils;
use ProfileStream::Broker;
use ProfileStream::Node qw(event);
use Test::More;

plan skip_all => 'needs a Kafka (KAFKA_HOME)' unless ProfileStream::Broker::available();

my $seed = $ENV{PS_SEED} // int(rand(1_000_000));
srand($seed);
note("seed $seed");

# An event of customer "bad" with more members; a later member replaces an earlier one.
sub bad { return event('bad', 'bad', type => 'transaction.completed', more => $_[0]); }

sub random_bytes
{
	my ($first, $n) = @_;
	return join('', map { chr } $first, map { int(rand 256) } 2 .. $n);
}

# name, value, kind, what the error is
my @corpus = (
	[ 'bad UTF-8', bad(qq(,"source":"\xff\xfe")), 'malformed', qr/^Malformed JSON: invalid UTF-8$/ ],
	[ 'overlong UTF-8', bad(qq(,"source":"\xc0\xaf")), 'malformed', qr/^Malformed JSON: invalid UTF-8$/ ],
	[ 'UTF-8 of a surrogate', bad(qq(,"source":"\xed\xa0\x80")), 'malformed', qr/^Malformed JSON: invalid UTF-8$/ ],
	[ '\u0000', bad(',"source":"a\u0000b"'), 'malformed', qr/^Malformed JSON: .*\\u0000/ ],
	[ 'lone surrogate', bad(',"source":"\ud800"'), 'malformed', qr/^Malformed JSON: .*surrogate/ ],
	[ 'zero byte', bad(",\"source\":\"a\0b\""), 'malformed', qr/^Malformed JSON: / ],
	[ 'framing', "\0\0\0\0\1" . bad(''), 'malformed', qr/^Schema registry framing is not supported by this format$/ ],
	[ '100,000 arrays', bad(',"payload":' . '[' x 100_000 . ']' x 100_000), 'malformed', qr/^Malformed JSON: nesting deeper than 64$/ ],
	[ '100,000 objects', '{"a":' x 100_000, 'malformed', qr/^Malformed JSON: nesting deeper than 64$/ ],
	[ '1e131071', bad(',"payload":{"amount":1e131071}'), 'malformed', qr/^Malformed JSON: .*out of range/i ],
	[ '1e400', bad(',"payload":{"amount":1e400}'), 'malformed', qr/^Malformed JSON: .*out of range/i ],
	[ '"1e131071"', bad(',"payload":{"amount":"1e131071"}'), 'handler', qr/^Processing error: / ],
	[ '39 digits', bad(',"payload":{"amount":' . '9' x 39 . '}'), 'handler', qr/^Processing error: / ],
	[ 'NaN', bad(',"payload":{"amount":NaN}'), 'malformed', qr/^Malformed JSON: / ],
	[ '"NaN"', bad(',"payload":{"amount":"NaN"}'), 'handler', qr/^Processing error: / ],
	[ '"Infinity"', bad(',"payload":{"amount":"Infinity"}'), 'handler', qr/^Processing error: / ],
	[ '10 MB', bad(',"payload":{"note":"' . 'x' x 10_000_000 . '"}'), 'malformed', qr/^Event too large: \d{8} bytes \(the limit is 1048576\), of which the first 65536 are kept$/ ],
	[ 'one byte too large', bad(',"source":"' . 'x' x (1_048_577 - length(bad(',"source":""'))) . '"'),
		'malformed', qr/^Event too large: 1048577 bytes/ ],
	[ 'year 294277', bad(',"timestamp":"294277-01-01T00:00:00Z"'), 'invalid', qr/^Invalid timestamp$/ ],
	[ 'year 294276', bad(',"timestamp":"294276-12-31T00:00:00Z"'), 'invalid', qr/^(Invalid timestamp|Timestamp too far in the future)$/ ],
	[ '1e20 ms', bad(',"timestamp":1e20'), 'invalid', qr/^Invalid timestamp$/ ],
	[ '10 KB customerId', bad(',"customerId":"' . 'x' x 10_240 . '"'), 'invalid', qr/^customerId too long$/ ],
	[ 'empty value', '', 'malformed', qr/^Malformed JSON: the value is empty$/ ],
	[ 'blanks', " \n\t ", 'malformed', qr/^Malformed JSON: / ],
	[ 'an array', '[' . bad('') . ']', 'malformed', qr/^Malformed JSON: / ],
	[ 'cut short', substr(bad(''), 0, 50), 'malformed', qr/^Malformed JSON: / ],
	[ 'two events', bad('') . bad(''), 'malformed', qr/^Malformed JSON: / ],
	[ 'every error', '{"timestamp":"x","payload":[],"schemaVersion":9}', 'invalid',
		qr/^Missing eventId\|Missing customerId\|Missing eventType\|Invalid timestamp\|Invalid payload\|Unsupported schemaVersion 9$/ ],
	(map { [ "random bytes $_", random_bytes(1 + int(rand 255), 1 + int(rand 2_000)), 'malformed', qr/^Malformed JSON: / ] } 1 .. 20));

# what looks odd and is good: the last of a repeated key counts, a megabyte is allowed
my @odd = (
	qq({"eventId":"no","eventId":"odd1","customerId":"no","customerId":"odd","eventType":"no","eventType":"seen","timestamp":0,"timestamp":"2026-01-01T00:00:00Z"}),
	qq({"eventId":"odd2","customerId":"odd","eventType":"seen","timestamp":"2026-01-01T00:00:00Z","payload":{"x":") . 'x' x 1_000_000 . '"}}');

my $broker = ProfileStream::Broker->new(topics => [ [ 'events', 2 ] ]);
my $node = ProfileStream::Node->start_new('main');
my $number = 0;

sub good
{
	$number++;
	return qq({"eventId":"g$number","customerId":"good","eventType":"seen","timestamp":"2026-01-01T00:00:00Z"});
}

$node->create_stream('crm', $broker, 'events', dead_letter_pause_ratio => 1);
ok($node->wait_state('crm', 'running'), 'the stream runs');
my $pid = $node->stream_pid('crm');

# one by one, each with a good event behind it
my $taken = 0;
foreach my $index (0 .. $#corpus)
{
	my ($name, $value, $kind, $error) = @{ $corpus[$index] };

	$broker->produce('events', [ 0, 'k', $value ], [ 0, 'k', good() ]);
	$node->wait_taken('crm', $taken += 2) or diag($name);
	my ($seen_kind, $md5, $errors) = split /\|/,
	  $node->safe_psql('postgres', "SELECT kind, md5(value), array_to_string(errors, '|') FROM profile_stream.dead_letters"
		  . " WHERE partition = 0 AND kafka_offset = 2 * $index"), 3;
	like($errors // 'no dead letter', $error, "$name: the error");
	# of what is too large the begin is kept
	my $kept = length($value) > 1_048_576 ? substr($value, 0, 65_536) : $value;
	is(($seen_kind // '') . ' ' . ($md5 // ''), "$kind " . md5_hex($kept), "$name: the kind, and the bytes");
}
is($node->safe_psql('postgres', "SELECT version FROM profile_stream.materialized_profiles WHERE customer_id = 'good'"),
	scalar(@corpus), 'the next event applied each time');

# all at once, on another partition, with what is good and what is nothing
$broker->produce('events', (map { [ 1, 'k', $_->[1] ] } @corpus), [ 1, 'k', undef ], (map { [ 1, 'k', $_ ] } @odd), [ 1, 'k', good() ]);
ok($node->wait_taken('crm', $taken + @corpus + 1 + @odd + 1), 'all of them at once do not stop the stream');
is($node->safe_psql('postgres', <<'END'), scalar(@corpus), 'the same dead letters');
SELECT count(*) FROM profile_stream.dead_letters a JOIN profile_stream.dead_letters b USING (kind, errors, value)
WHERE a.partition = 0 AND b.partition = 1 AND a.kafka_offset = 2 * b.kafka_offset
END
is($node->safe_psql('postgres', 'SELECT partition, applied, dead, tombstones FROM profile_stream_internal.stream_offsets ORDER BY 1'),
	join("\n", join('|', 0, scalar(@corpus), scalar(@corpus), 0), join('|', 1, @odd + 1, scalar(@corpus), 1)),
	'the counters add up; the tombstone is counted and nothing else');
is($node->safe_psql('postgres', 'SELECT customer_id, version FROM profile_stream.materialized_profiles ORDER BY 1'),
	"good|$number\nodd|2", 'no other profile came to be');
is($node->stream_pid('crm'), $pid, 'one worker lived through all of it');

$node->is_clean('end');
$node->stop('fast');
$broker->stop;
done_testing();

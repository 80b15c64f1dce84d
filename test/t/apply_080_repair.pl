# Two sessions repair a thousand dead letters of five kinds at once with a transform. The profiles are then the same as if
# the events had been right from the start.

use strict;
use warnings;

use FindBin;
use MIME::Base64;
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Utils;
use ProfileStream::Broker;
use ProfileStream::Node;
use Test::More;

my $broker = ProfileStream::Broker->new(mock => !ProfileStream::Broker::available(), topics => [ [ 'bad', 1 ], [ 'good', 1 ] ]);
my $node = ProfileStream::Node->start_new('main');

# The event of a number, broken in one of five ways or right.
sub row
{
	my ($i, $broken) = @_;
	my $kind = $broken ? $i % 5 : -1;
	my $customer = 'c' . $i % 40;
	my $id = $kind == 0 ? 'id' : 'eventId';
	my $owner = $kind == 1 ? 'customer' : 'customerId';
	my $at = $kind == 2 ? 'yesterday' : '2024-01-02T00:00:00Z';
	my $amount = $kind == 3 ? qq("EUR $i") : $i;
	my $text = qq({"$id":"e$i","$owner":"$customer","eventType":"transaction.completed","timestamp":"$at","payload":{"amount":$amount}});
	return [ 0, $customer, $kind == 4 ? substr($text, 1) : $text ];
}

# Everything that a profile says, one row a customer.
my $state = q{SELECT customer_id, version, updated_at, last_transaction_at, event_counts,
	profile_stream.metric_value(customer_id, 'transaction_count_30d', '2024-01-03Z'),
	profile_stream.metric_value(customer_id, 'total_transaction_value_30d', '2024-01-03Z')
	FROM profile_stream.materialized_profiles ORDER BY customer_id};

# Takes a topic with 1,000 messages by a stream that dead letters do not pause.
sub take
{
	my ($name, $topic) = @_;
	$node->create_stream($name, $broker, $topic);
	$node->safe_psql('postgres', "SELECT profile_stream.alter_stream('$name', dead_letter_pause_ratio => 1)");
	$broker->produce($topic, map { row($_, $topic eq 'bad') } 1 .. 1_000);
	ok($node->wait_taken($name, 1_000), "the stream takes the topic $topic");
}

take('crm', 'bad');
is($node->safe_psql('postgres', 'SELECT count(*), count(DISTINCT error), min(letters), max(letters), sum(letters) FROM (SELECT errors[1] AS error, count(*) AS letters FROM profile_stream.dead_letters GROUP BY stream, kind, errors[1]) l'),
	'5|5|200|200|1000', 'five kinds of dead letters');

$node->safe_psql('postgres', <<'END');
CREATE FUNCTION public.mend(line text) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
	event jsonb := CASE WHEN line LIKE '{%' THEN line ELSE '{' || line END;
BEGIN
	RETURN event || jsonb_build_object('eventId', COALESCE(event -> 'eventId', event -> 'id'),
		'customerId', COALESCE(event -> 'customerId', event -> 'customer'), 'timestamp', '2024-01-02T00:00:00Z',
		'payload', jsonb_build_object('amount', replace(event #>> '{payload,amount}', 'EUR ', '')::numeric));
END $$;
END

# the first session has its letters locked while the second retries
my $first = $node->background_psql('postgres');
$first->query_safe('BEGIN');
is($first->query_safe(q{SELECT applied, failed FROM profile_stream.retry_dead_letters(transform => 'public.mend(text)', max_letters => 400)}),
	'400|0', 'a first session repairs some');
my $customers = $node->safe_psql('postgres', q{SELECT applied, duplicates, failed, kept, last_id IS NULL
	FROM profile_stream.retry_dead_letters(transform => 'public.mend(text)',
		ids => ARRAY(SELECT dead_letter_id FROM profile_stream.dead_letters ORDER BY 1 LIMIT 400))});
is($customers, '0|0|0|0|t', 'a second passes over what the first has');
$first->query_safe('COMMIT');
$first->quit;
is($node->safe_psql('postgres', q{SELECT applied, duplicates, failed, kept FROM profile_stream.retry_dead_letters(stream => 'crm', transform => 'public.mend(text)')}),
	'600|0|0|0', 'and repairs the others');
is($node->safe_psql('postgres', 'SELECT count(*) FROM profile_stream.dead_letters'), '0', 'no letter is left');
is($node->safe_psql('postgres', q{SELECT sum(dead), sum(difference) FROM profile_stream.reconcile('crm')}), '1000|0', 'the books balance');

# what the model says of the corrected events
my $dir = PostgreSQL::Test::Utils::tempdir('events');
append_to_file("$dir/events", join('', map { my $event = row($_, 0); "0\t$event->[1]\t" . encode_base64($event->[2], '') . "\n" } 1 .. 1_000));
$node->equals_model('crm', { files => ["$dir/events"], dir => $dir, until => '2024-01-03T00:00:00Z' }, 'repaired', effects => 1);

my $repaired = $node->safe_psql('postgres', $state);
$node->safe_psql('postgres', q{SELECT profile_stream.drop_stream('crm')});
$node->safe_psql('postgres', 'TRUNCATE profile_stream.materialized_profiles, profile_stream_internal.event_id_chunks, profile_stream_internal.window_chunks');
take('right', 'good');
is($node->safe_psql('postgres', $state), $repaired, 'the profiles are those of a topic that was right from the start');
is(scalar(split(/\n/, $repaired)), 40, 'of all customers');

$node->stop;
done_testing();

# Five bad events among fifty thousand good ones: exactly these five become dead letters.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Utils;
use ProfileStream::Broker;
use ProfileStream::Node;
use Test::More;
use Time::HiRes qw(time);

plan skip_all => 'needs a Kafka (KAFKA_HOME)' unless ProfileStream::Broker::available();

my $total = $ENV{PS_EVENTS} // 50_000;
my $customers = 5_000;
my $every = 10_000;
my $broker = ProfileStream::Broker->new(topics => [ [ 'events', 4 ] ]);
my $node = ProfileStream::Node->start_new('main');

# a customer of the poison has good events as well: it is the event that goes, not the customer
sub is_poison { return $_[0] % $every == $every / 2; }

$broker->produce('events', map {
		my $customer = $_ % $customers;
		my $type = is_poison($_) ? 'poison' : 'seen';
		[ $customer % 4, "c$customer",
			qq({"eventId":"e$_","customerId":"c$customer","eventType":"$type","timestamp":"2026-01-01T00:00:00Z"}) ]
	} 0 .. $total - 1);
$node->safe_psql('postgres', <<'END');
ALTER TABLE profile_stream.materialized_profiles ADD CONSTRAINT no_poison CHECK (NOT event_counts ? 'poison');
END

my $start = time;
$node->create_stream('crm', $broker, 'events');
ok($node->wait_taken('crm', $total), 'poison does not stop the stream');
note(sprintf('%d events in %.1f s', $total, time - $start));
my $poison = $total / $every;
is($node->safe_psql('postgres', <<'END'), "$poison|$poison|$poison|t|handler|23514", 'each poison event is a dead letter, once');
SELECT count(*), count(DISTINCT event_id), count(DISTINCT (partition, kafka_offset)), bool_and(event_type = 'poison'),
	string_agg(DISTINCT kind, ','), string_agg(DISTINCT sqlstate, ',')
FROM profile_stream.dead_letters
END
is( $node->safe_psql('postgres', 'SELECT string_agg(event_id, \',\' ORDER BY length(event_id), event_id) FROM profile_stream.dead_letters'),
	join(',', map { 'e' . ($_ * $every + $every / 2) } 0 .. $poison - 1),
	'and these are they');
is( $node->safe_psql('postgres', "SELECT count(*) FROM profile_stream.dead_letters WHERE errors[1] ~ '^Processing error: .*no_poison'"),
	$poison, 'each says why');

# everything else: version and count of each customer, ids, counters
is($node->safe_psql('postgres', <<"END"), '0', 'every other event is applied, once');
WITH expected AS (
	SELECT 'c' || n % $customers AS customer_id, count(*) FILTER (WHERE n % $every <> $every / 2) AS events
	FROM generate_series(0, $total - 1) n GROUP BY 1)
SELECT count(*) FROM expected FULL JOIN profile_stream.materialized_profiles p USING (customer_id)
WHERE (p.version, (p.event_counts ->> 'seen')::int) IS DISTINCT FROM (expected.events, expected.events::int)
END
is($node->safe_psql('postgres', 'SELECT sum(applied), sum(duplicates), sum(dead) FROM profile_stream_internal.stream_offsets'),
	join('|', $total - $poison, 0, $poison), 'the counters say so');
is($node->safe_psql('postgres', 'SELECT count(*) FROM profile_stream_internal.event_ids'), $total - $poison,
	'the id of a dead letter is not remembered');

$node->is_clean('end');
$node->stop('fast');
$broker->stop;
done_testing();

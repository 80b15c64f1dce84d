# A table refuses the row of an event: the event becomes a dead letter and all others are applied. When the fault is the
# system's (a full disk, a missing right), the stream retries, loses nothing and writes no dead letter.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Utils;
use ProfileStream::Broker;
use ProfileStream::Node qw(events);
use Test::More;

my $broker = ProfileStream::Broker->new(mock => !ProfileStream::Broker::available(), topics => [ [ 'events', 1 ] ]);
my $node = ProfileStream::Node->start_new('main');

# a trigger refuses two customers
$node->safe_psql('postgres', <<'END');
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF NEW.customer_id IN ('c7', 'c42') THEN
		RAISE EXCEPTION 'customer % is refused', NEW.customer_id USING ERRCODE = 'check_violation';
	END IF;
	RETURN NEW;
END $$;
CREATE TRIGGER refuse BEFORE INSERT OR UPDATE ON profile_stream.materialized_profiles
	FOR EACH ROW EXECUTE FUNCTION refuse();
END
$broker->produce('events', events(0, 1_000, customers => 100, type => 'session.started'));
$node->create_stream('crm', $broker, 'events');
ok($node->wait_taken('crm', 1_000), 'poison does not stop the stream');
is($node->safe_psql('postgres', 'SELECT count(*), count(DISTINCT kafka_offset), min(sqlstate) FROM profile_stream.dead_letters'),
	'20|20|23514', 'each refused event is a dead letter, once');
is($node->safe_psql('postgres', "SELECT count(*) FROM profile_stream.dead_letters WHERE customer_id NOT IN ('c7', 'c42')"),
	'0', 'and no other event is');
is($node->safe_psql('postgres', 'SELECT count(*), sum(version) FROM profile_stream.materialized_profiles'), '98|980',
	'all other events are applied');
$node->safe_psql('postgres', 'DROP TRIGGER refuse ON profile_stream.materialized_profiles');

# a full disk is nobody's data
SKIP:
{
	skip 'built without failpoints', 3 unless $node->has_failpoints;
	$node->set_failpoint('after_upsert:disk_full');
	$broker->produce('events', events(1_000, 500, customers => 100, type => 'session.started'));
	ok($node->wait_state('crm', 'retrying'), 'a full disk: the stream retries');
	is($node->safe_psql('postgres', 'SELECT count(*) FROM profile_stream.dead_letters'), '20', 'a full disk: no dead letter');
	$node->set_failpoint('');
	ok($node->wait_taken('crm', 1_500), 'a full disk: heals by itself');
	is($node->safe_psql('postgres', 'SELECT sum(version) FROM profile_stream.materialized_profiles'), '1480',
		'a full disk: nothing lost or twice');
}

$node->is_clean('end');
$node->stop('fast');
$broker->stop;
done_testing();

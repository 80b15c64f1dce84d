# Errors of a worker say what it was applying: topic, partition, offsets, and of a single event its id and customer.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Utils;
use ProfileStream::Broker;
use ProfileStream::Node qw(events);
use Test::More;

my $broker = ProfileStream::Broker->new(mock => !ProfileStream::Broker::available(), topics => [ [ 'events', 2 ] ]);
my $node = ProfileStream::Node->start_new('main');

# Waits for a message whose context has a line.
sub wait_context
{
	my ($message, $line, $name) = @_;
	ok($node->wait_for_log(qr/$message[^\n]*\n(?:[^\n]*DETAIL[^\n]*\n|[^\n]*HINT[^\n]*\n)?[^\n]*CONTEXT: (?:[^\n]*\n\t)*[^\n]*$line\n/), $name);
}

# A trigger warns of c7 and raises the error class of the table's only row.
$node->safe_psql('postgres', <<'END');
CREATE TABLE state AS SELECT 'check_violation' AS code;
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF NEW.customer_id = 'c7' THEN
		RAISE WARNING 'customer % comes', NEW.customer_id;
		RAISE EXCEPTION 'customer % is refused', NEW.customer_id USING ERRCODE = (SELECT code FROM public.state);
	END IF;
	RETURN NEW;
END $$;
CREATE TRIGGER refuse BEFORE INSERT OR UPDATE ON profile_stream.materialized_profiles
	FOR EACH ROW EXECUTE FUNCTION refuse();
END

# an event of its own
$broker->produce('events', events(0, 40, customers => 10, partitions => 2));
$node->create_stream('crm', $broker, 'events');
ok($node->wait_taken('crm', 40), 'the stream runs');
is($node->safe_psql('postgres', 'SELECT count(*) FROM profile_stream.dead_letters'), '4', 'refused events are dead letters');
wait_context('WARNING:  customer c7 comes',
	'applying topic "events"(?:,? partition \d offset \d+ to \d+)+ of stream "crm"', 'a warning names the range');
wait_context('WARNING:  customer c7 comes',
	'applying topic "events" partition 1 offset 3 to 3 of stream "crm": event "e7" of customer "c7"',
	'a warning of an event alone names the event');

# a fault of the system
$node->safe_psql('postgres', "UPDATE state SET code = 'disk_full'");
$broker->produce('events', [ 0, 'c0', '{' ], events(47, 1, customers => 10, partitions => 2));
ok($node->wait_state('crm', 'retrying'), 'a full disk: the stream retries');
wait_context('ERROR:  customer c7 is refused',
	'applying topic "events" .*partition 1 offset 20 to 20 of stream "crm".*', 'an error names the range');
$node->safe_psql('postgres', 'DROP TRIGGER refuse ON profile_stream.materialized_profiles');
ok($node->wait_taken('crm', 42), 'the stream goes on');

# outside of a batch there is no such context
my $from = -s $node->logfile;
my $pid = $node->worker_pid;
$node->safe_psql('postgres', "SELECT pg_terminate_backend($pid)");
ok($node->wait_for_log(qr/terminating background worker "profile_stream worker/, $from), 'a worker that waits is terminated');
ok($node->wait_state('crm', 'running'), 'and comes back');
unlike(slurp_file($node->logfile, $from), qr/CONTEXT: .*applying/, 'without a context');

$node->is_clean('end');
$node->stop('fast');
$broker->stop;
done_testing();

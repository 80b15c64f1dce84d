# A worker remembers where it saw a profile's row. The test moves rows behind its back; the worker finds them all the same.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use ProfileStream::Broker;
use ProfileStream::Node;
use Test::More;

plan skip_all => 'needs a Kafka (KAFKA_HOME)' unless ProfileStream::Broker::available();

my $events = ProfileStream::Node::generate(
	seed => $ENV{PS_SEED} // 40,
	events => 10_000,
	customers => 500,
	parts => 5);
my $broker = ProfileStream::Broker->new(topics => [ [ 'events', 4 ] ]);
my $node = ProfileStream::Node->start_new('main');
my $table = 'profile_stream.materialized_profiles';

# between two parts; every customer has its row in another's place, or beyond the end of the table
my @moves = (
	[ 'rewritten', "VACUUM FULL $table" ],
	[ 'turned round', "BEGIN; CREATE TEMP TABLE saved AS TABLE $table; TRUNCATE $table;"
		  . " INSERT INTO $table SELECT * FROM saved ORDER BY customer_id DESC; COMMIT" ],
	[ 'deleted and inserted', "BEGIN; CREATE TEMP TABLE saved AS TABLE $table; DELETE FROM $table;"
		  . " INSERT INTO $table SELECT * FROM saved ORDER BY customer_id; COMMIT" ],
	[ 'updated and vacuumed', "UPDATE $table SET lifetime_value = lifetime_value; VACUUM $table" ]);

$node->create_stream('crm', $broker, 'events');
$broker->produce_file('events', $events->{files}[0]);
ok($node->wait_taken('crm', 2_000), 'the worker knows where rows are');
for my $i (0 .. $#moves)
{
	my ($how, $sql) = @{ $moves[$i] };

	# VACUUM must be alone
	$node->safe_psql('postgres', $_) for $sql =~ /VACUUM/ ? split(/;/, $sql) : $sql;
	$broker->produce_file('events', $events->{files}[ $i + 1 ]);
	ok($node->wait_taken('crm', 2_000 * ($i + 2)), "the stream goes on when rows are $how");
}
$node->equals_model('crm', $events, 'rows that moved');

$node->is_clean('end');
$node->stop('fast');
$broker->stop;
done_testing();

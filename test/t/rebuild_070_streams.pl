# A rebuild of several streams that feed the same profiles: it reads the topics of all of them, none ahead of the others,
# and comes to what the streams have made, also after kill -9.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Utils;
use ProfileStream::Broker;
use ProfileStream::Node qw(event);
use Test::More;
use Time::HiRes qw(usleep);

plan skip_all => 'needs a Kafka (KAFKA_HOME)' unless ProfileStream::Broker::available();

my $broker = ProfileStream::Broker->new(topics => [ [ 'shop', 2 ], [ 'web', 1 ], [ 'third', 1 ] ]);
my $node = ProfileStream::Node->start_new('main');
my $second = 0;
my %taken = (shop => 0, web => 0);

# So many events of one customer, each a second later than all before it. With no tolerance an event that is applied
# before an earlier one makes that one late.
sub produce
{
	my ($topic, $n) = @_;
	$broker->produce($topic, map { $second++; [ 0, 'c', event("e$second", 'c', timestamp => (1_767_225_600 + $second) * 1000,
				type => 'customer.profile.updated', payload => qq({"firstName":"$second"})) ] } 1 .. $n);
	$taken{$topic} += $n;
}

$node->create_stream($_, $broker, $_, late_tolerance => q('0')) foreach qw(shop web);
foreach my $round (1 .. 4)
{
	foreach my $topic (qw(shop web))
	{
		produce($topic, 100);
		ok($node->wait_taken($topic, $taken{$topic}), "round $round: $topic has applied its events");
		usleep(1_200_000);
	}
}
is($node->sql('SELECT count(*) FROM profile_stream.dead_letters'), '0', 'live no event is late');
my $live = $node->sql("SELECT version, first_name, event_counts, updated_at, watermark FROM profile_stream.materialized_profiles");

# all streams are rebuilt, whichever is named
$node->sql("SELECT profile_stream.rebuild('web')");
ok($node->poll_query_until('postgres', "SELECT count(*) = 2 FROM profile_stream.stat_rebuilds WHERE worker_pid IS NOT NULL"), 'both streams are rebuilt');
ok($node->kill_process($node->sql('SELECT worker_pid FROM profile_stream.stat_rebuilds WHERE worker_pid IS NOT NULL LIMIT 1')), 'one of the processes is killed');
ok($node->poll_query_until('postgres', "SELECT count(*) FILTER (WHERE state = 'ready') = 2 FROM profile_stream.stat_rebuilds"), 'both get ready')
  or diag($node->sql('SELECT * FROM profile_stream.stat_rebuilds'));
is($node->sql("SELECT * FROM profile_stream.rebuild_diff('shop')"), '', 'the rebuilt profiles are those of the streams');
is($node->sql('SELECT count(*) FROM profile_stream_rebuild.dead_letters'), '0', 'in the rebuild no event is late either');

# it follows both
produce('shop', 10);
ok($node->wait_taken('shop', $taken{shop}), 'a stream goes on');
produce('web', 10);
ok($node->wait_taken('web', $taken{web}), 'and the other');

# a stream that came later is not in the rebuild
$node->create_stream('third', $broker, 'third');
$node->fails_like("SELECT profile_stream.swap_rebuild('web')", qr/fed by stream "third" too.*cancel_rebuild/s, 'a swap beside a new stream');
$node->sql("SELECT profile_stream.drop_stream('third')");

# what is wrong in the profiles is put right from both topics
$node->sql("UPDATE profile_stream.materialized_profiles SET first_name = 'wrong', version = 1");
my $told = $node->safe_psql('postgres', "SELECT format('LISTEN %I', profile_stream.notification_channel()) \\gexec\nSELECT profile_stream.swap_rebuild('shop')");
like($told, qr/^1$/m, 'the swap changes the profile');
like($told, qr/"stream":"$_","rebuilt":1/, "it tells the listeners of $_") foreach qw(shop web);
is($node->sql('SELECT version, first_name FROM profile_stream.materialized_profiles'), "$second|$second", 'it has the events of both streams');
is($node->sql('SELECT count(*) FROM profile_stream.stat_rebuilds'), '0', 'the rebuild is over');
produce('shop', 5);
ok($node->wait_taken('shop', $taken{shop}), 'the streams go on');
is($node->sql('SELECT version FROM profile_stream.materialized_profiles'), $second, 'with their events');
$node->is_balanced($_, $_) foreach qw(shop web);

# to pause, to resume and to cancel is for all streams
$node->sql("SELECT profile_stream.rebuild('shop')", "SELECT profile_stream.pause_rebuild('web')");
ok($node->poll_query_until('postgres', "SELECT count(*) FILTER (WHERE state = 'paused') = 2 FROM profile_stream.stat_rebuilds"), 'paused');
$node->sql("SELECT profile_stream.resume_rebuild('shop')");
ok($node->poll_query_until('postgres', "SELECT count(*) FILTER (WHERE state = 'ready') = 2 FROM profile_stream.stat_rebuilds"), 'resumed');
$node->sql("SELECT profile_stream.cancel_rebuild('web')");
ok($node->poll_query_until('postgres', "SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'profile_stream rebuild'"), 'cancelled');
isnt($live, '', 'there was a profile');

$node->stop('fast');
$broker->stop;
done_testing();

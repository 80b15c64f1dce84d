# alter_stream() changes a stream while it runs, and seek_stream() moves a paused one. No message is lost or applied
# twice; a change that would do so is refused.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use POSIX qw(strftime);
use PostgreSQL::Test::Utils;
use ProfileStream::Broker;
use ProfileStream::Node qw(events);
use Test::More;

plan skip_all => 'needs a Kafka (KAFKA_HOME)' unless ProfileStream::Broker::available();

my $broker = ProfileStream::Broker->new(topics => [ [ 'events', 2 ], [ 'lost', 1 ] ], proxied => 1);
my $node = ProfileStream::Node->start_new('main');
my $number = 0;

sub call { return $node->safe_psql('postgres', "SELECT profile_stream.$_[0]"); }
sub refused { my ($sql, $pattern, $name) = @_; $node->fails_like("SELECT profile_stream.$sql", $pattern, $name); }

# The gaps of a stream, as rows.
sub gaps
{
	return $node->safe_psql('postgres', "SELECT partition, from_offset, to_offset, reason FROM profile_stream_internal.stream_gaps"
		  . " JOIN profile_stream.streams USING (stream_id) WHERE name = '$_[0]' ORDER BY recorded_at, 1");
}

# What a stream counted, and what the profiles hold.
sub counts
{
	return $node->safe_psql('postgres', "SELECT sum(consumed), sum(applied), sum(duplicates), (SELECT sum(version) FROM"
		  . " profile_stream.materialized_profiles) FROM profile_stream.stat_partitions WHERE stream = 'crm'");
}

$broker->produce('events', events(\$number, 100, partitions => 2));
$node->create_stream('crm', $broker, 'events');
ok($node->wait_taken('crm', 100), 'the stream runs');

# settings change while it runs
my $pid = $node->stream_pid('crm');
call("alter_stream('crm', batch_size => 7, batch_wait => '10 ms', notify => 'off', late_tolerance => '1 day')");
$broker->produce('events', events(\$number, 100, partitions => 2));
ok($node->wait_taken('crm', 200), 'altered: goes on');
is($node->stream_pid('crm'), $pid, 'altered: in the same worker');
is($node->safe_psql('postgres', 'SELECT batch_size, batch_wait, notify, late_tolerance, topic FROM profile_stream.streams'),
	'7|00:00:00.01|off|24:00:00|events', 'altered: the others stay as they were');
$broker->produce('events', [ 0, 'c1', '{"eventId":"late","customerId":"c1","eventType":"seen","timestamp":"2025-12-30T00:00:00Z"}' ]);
ok($node->wait_taken('crm', 201), 'altered: a late event is read');
is($node->safe_psql('postgres', 'SELECT kind FROM profile_stream.dead_letters'), 'late', 'altered: and late by the new tolerance');

# another way to the same brokers
call("alter_stream('crm', bootstrap_servers => '" . $broker->proxy->bootstrap . "', group_id => 'other')");
ok($node->wait_stream_pid('crm', $pid), 'other brokers: the worker begins anew');
$broker->produce('events', events(\$number, 100, partitions => 2));
ok($node->wait_taken('crm', 301), 'other brokers: goes on');
is(counts(), '301|300|0|300', 'nothing lost or twice');

refused("alter_stream('nobody', batch_size => 1)", qr/does not exist/, 'an unknown stream');
refused("alter_stream('crm', batch_size => 0)", qr/batch_size must be/, 'a wrong batch_size');
refused("alter_stream('crm', on_offset_lost => 'panic')", qr/on_offset_lost must be/, 'a wrong on_offset_lost');
refused("alter_stream('crm', options => '{\"plugin.library.paths\": \"x\"}')", qr/not allowed/, 'an option that runs code');
$node->safe_psql('postgres', 'CREATE ROLE other; GRANT profile_stream_operator TO other');
$node->fails_like("SET ROLE other; SELECT profile_stream.alter_stream('crm', batch_size => 1)", qr/must be owner/, 'not the owner');

# seek: only a stream that is paused
refused("seek_stream('crm', 'earliest')", qr/is running.*pause_stream/s, 'a running stream');
call("pause_stream('crm')");
refused("seek_stream('crm', '{\"0\": 100000}')", qr/partition 0 has no offset 100000.*The topic has 0 to 151/s, 'an offset beyond the end');
refused("seek_stream('crm', '{\"0\": -1}')", qr/must give an offset/, 'a negative offset');
refused("seek_stream('crm', '{\"2\": 0}')", qr/partition 2 does not exist/, 'an unknown partition');
refused("seek_stream('crm', '{\"x\": 0}')", qr/by their numbers/, 'no partition');
refused("seek_stream('crm', 'yesteryear')", qr/invalid input syntax/, 'no time');
is(gaps('crm'), '', 'what is refused moves nothing');

# back: everything is read again, and known
call("seek_stream('crm', 'earliest')");
is(gaps('crm'), "0|151|0|seek\n1|150|0|seek", 'back: recorded');
call("resume_stream('crm')");
ok($node->wait_taken('crm', 602), 'back: everything is read again');
is(counts(), '602|300|300|300', 'back: and has no effect');
is($node->safe_psql('postgres', 'SELECT count(*), max(epoch) FROM profile_stream.dead_letters'), '1|0', 'back: one dead letter, one epoch');

# forward: what is skipped stays skipped, until somebody goes back for it
call("pause_stream('crm')");
my $before = strftime('%Y-%m-%d %H:%M:%S+00', gmtime(time - 3600));
$broker->produce('events', events(\$number, 50, partitions => 2));
call("seek_stream('crm', 'latest')");
call("resume_stream('crm')");
$broker->produce('events', events(\$number, 10, partitions => 2));
ok($node->wait_taken('crm', 612), 'forward: goes on with what comes');
is(counts(), '612|310|300|310', 'forward: what was skipped is not applied');
call("pause_stream('crm')");
call("seek_stream('crm', '{\"0\": 151}')");
call("resume_stream('crm')");
ok($node->wait_taken('crm', 642), 'explicit offsets: one partition is read again');
is(counts(), '642|335|305|335', 'explicit offsets: what was skipped of it applies now');
call("pause_stream('crm')");
call("seek_stream('crm', '$before')");
call("resume_stream('crm')");
ok($node->wait_taken('crm', 642 + 361), 'a time: everything since is read again');
is(counts(), '1003|360|640|360', 'a time: what was skipped applies now, the rest is known');
is($node->safe_psql('postgres', "SELECT count(*) FILTER (WHERE difference <> 0) FROM profile_stream.reconcile('crm')"), '0',
	'the books balance');

# too far back: the event ids may be forgotten
call("alter_stream('crm', dedupe_retention => '0')");
call("pause_stream('crm')");
refused("seek_stream('crm', 'earliest')", qr/older than dedupe_retention.*applied twice.*rebuild/s, 'past dedupe_retention');
call("resume_stream('crm')");
call("alter_stream('crm', dedupe_retention => '7 days')");

# a broker that does not answer
call("pause_stream('crm')");
ok($node->wait_stopped('crm'), 'paused');
$broker->proxy->tell('refuse');
refused("seek_stream('crm', 'earliest')", qr/could not reach the broker|did not answer/, 'an unreachable broker');
$broker->proxy->tell('pass');

# a lost offset: altering or seeking gets the stream going
foreach my $way ('alter', 'seek')
{
	$broker->produce('lost', map { [ 0, 'l', qq({"eventId":"$way$_","customerId":"l","eventType":"seen","timestamp":"2026-01-01T00:00:00Z"}) ] } 1 .. 100);
	my $end = $way eq 'alter' ? 100 : 220;
	$node->create_stream($way, $broker, 'lost', group_id => "'$way'");
	ok($node->poll_query_until('postgres', "SELECT next_offset = $end FROM profile_stream.stat_partitions WHERE stream = '$way'"), "$way: runs");
	call("pause_stream('$way')");
	ok($node->wait_stopped($way), "$way: paused");
	$broker->produce('lost', map { [ 0, 'l', qq({"eventId":"$way$_","customerId":"l","eventType":"seen","timestamp":"2026-01-01T00:00:00Z"}) ] } 101 .. 120);
	$broker->delete_records('lost', 0, $end + 10);
	call("resume_stream('$way')");
	ok($node->wait_state($way, 'offset_lost'), "$way: the offset is lost");
	if ($way eq 'alter')
	{
		call("alter_stream('$way', on_offset_lost => 'earliest')");
	}
	else
	{
		call("pause_stream('$way')");
		call("seek_stream('$way', 'earliest')");
		call("resume_stream('$way')");
	}
	ok($node->poll_query_until('postgres', "SELECT next_offset = $end + 20 FROM profile_stream.stat_partitions WHERE stream = '$way'"),
		"$way: goes on");
	is(gaps($way), "0|$end|" . ($end + 10) . '|' . ($way eq 'alter' ? 'offset_lost' : 'seek'), "$way: recorded");
	call("drop_stream('$way')");
	$broker->delete_records('lost', 0, 120) if $way eq 'alter';
}

$node->is_clean('end');
$node->stop('fast');
$broker->stop;
done_testing();

# Offsets that are moved, lost, or of another topic, where two servers share the profiles as nodes of Citus do: a seek that the nodes run one after
# the other while shards move in between, retention that has passed a shard which comes from a node that was behind, topics that are created anew
# and noticed by one node before the other, topics that come while a node does not run, and rows of streams that were dropped. Nothing is remembered of
# event ids where events are not to be duplicates, so that one that is applied twice shows. cluster_090 has Citus itself.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Utils;
use ProfileStream::Broker;
use ProfileStream::Node qw(event);
use ProfileStream::Shards qw(make_shards give_shard run_call);
use Test::More;

plan skip_all => 'needs a Kafka (KAFKA_HOME)' unless ProfileStream::Broker::available();

my $broker = ProfileStream::Broker->new(topics => []);
my ($one, $two) = map { ProfileStream::Node->start_new($_) } qw(one two);
my @nodes = ($one, $two);
my $customers = 24;
my %stream_ids;
my @calls;
my %ran = (one => 0, two => 0);

make_shards(@nodes);
# hashes of event ids move with their shards
$one->poll_query_until('postgres', 'SELECT count(*) = 1 FROM profile_stream_internal.event_id_keys') if !$one->sql('SELECT count(*) FROM profile_stream_internal.event_id_keys');
$two->sql('DELETE FROM profile_stream_internal.event_id_keys', "INSERT INTO profile_stream_internal.event_id_keys (made_at, key) VALUES ($_)") foreach $one->sql("SELECT format('%L, %L', made_at, key) FROM profile_stream_internal.event_id_keys");

# Runs on a node the calls that it has not run yet, as the coordinator sends them.
sub catch_up
{
	my ($node) = @_;
	run_call($node, 1 + $ran{ $node->name }++, @$_{qw(json ids function)}) foreach @calls[ $ran{ $node->name } .. $#calls ];
	return;
}

# A call that all nodes run at once, or some later.
sub call
{
	my ($function, $json, @at_once) = @_;
	push @calls, { function => $function, json => $json, ids => sprintf('{%d,3,1}', 1 + keys %stream_ids) };
	catch_up($_) foreach @at_once ? @at_once : @nodes;
	return;
}

sub create
{
	my ($name, $options) = @_;
	my $topic = $options =~ /topic/ ? '' : qq(, "topic": "$name");
	call('create_stream', sprintf('{"name": "%s", "bootstrap_servers": "%s", "batch_size": 20, %s%s}', $name, $broker->bootstrap, $options, $topic));
	$stream_ids{$name} = 1 + keys %stream_ids;
	return;
}

# Produces events from a number on, one for each customer of the topic in turn; returns how many events a customer of a shard gets by their offsets.
sub produce
{
	my ($topic, $name, $from, $n) = @_;
	$broker->produce($topic, map { [ 0, '', event("$name$_", "$topic-" . $_ % $customers) ] } $from .. $from + $n - 1);
	return;
}

sub of_stream { return "FROM profile_stream_internal.stream_offsets WHERE stream_id = $stream_ids{$_[0]}"; }

# Waits until a node has read a stream up to an offset.
sub wait_read
{
	my ($name, $offset, @at) = @_;
	foreach my $node (@at ? @at : @nodes)
	{
		ok($node->poll_query_until('postgres', "SELECT COALESCE((SELECT next_offset = $offset AND state = 'running' @{[of_stream($name)]}), false)"), "$name: " . $node->name . " has read $offset messages")
		  or diag($node->sql("SELECT * @{[of_stream($name)]}", 'SELECT state, error FROM profile_stream.stat_streams'));
	}
	return;
}

sub wait_paused
{
	my ($name, $node) = @_;
	ok($node->wait_stopped($name), "$name: " . $node->name . ' is paused');
	return;
}

# Which shards are on a node.
sub shards_of { return split(/\n/, $_[0]->sql('SELECT shardid - 100 FROM pg_dist_placement JOIN pg_dist_local_group USING (groupid) WHERE shardid < 200 ORDER BY 1')); }

# How many events of each customer of a topic are applied, on whichever node.
sub versions
{
	my ($topic) = @_;
	return { map { /^\((\S+),(\d+)\)$/ ? ($1 => $2) : () } grep { /^\($topic-/ } map { split(/\n/, $_->sql(q{SELECT public.rows_of('materialized_profiles', 'customer_id, version')})) } @nodes };
}

# The same as it must be: $taken says of a shard and an event, by its number from 0, whether the event is applied.
sub expected
{
	my ($topic, $n, $taken) = @_;
	my %shards = map { split(/\|/) } split(/\n/, $one->sql("SELECT c, (hashtext(c COLLATE \"C\")::bigint + 2147483648) / 1073741824 FROM generate_series(0, @{[$customers - 1]}) i, format('%s-%s', '$topic', i) c"));
	my %versions;
	foreach my $number (0 .. $n - 1)
	{
		my $customer = "$topic-" . $number % $customers;
		$versions{$customer}++ if $taken->($shards{$customer}, $number);
	}
	return \%versions;
}

sub gaps { my ($name, $node) = @_; return $node->sql("SELECT from_offset, to_offset, reason FROM profile_stream_internal.stream_gaps WHERE stream_id = $stream_ids{$name} ORDER BY recorded_at"); }

# What all nodes counted of a stream.
sub sum_of
{
	my ($name, $column) = @_;
	my $sum = 0;
	$sum += $_->sql("SELECT $column @{[of_stream($name)]}") foreach @nodes;
	return $sum;
}

sub is_balanced
{
	my ($name) = @_;
	is($_->sql("SELECT profile_stream_internal.run_on_this_node(\$c\$(SELECT sum(o.difference)::int AS difference FROM profile_stream.reconcile('$name') o)\$c\$)"), '{"difference": 0}', "$name: the counters of " . $_->name . ' are balanced')
	  foreach @nodes;
	return;
}

# a seek: one node runs it and reads on, and then gives a shard to the other one, which runs it afterwards and gives one back
$broker->create_topic('seek', 1);
produce('seek', 'seek', 0, 240);
create('seek', '"dedupe_retention": "1 day"');
wait_read('seek', 240);
call('pause_stream', '{"name": "seek"}', $one);
wait_paused('seek', $one);
call('seek_stream', '{"name": "seek", "to": "{\"seek\": {\"0\": 100}}"}', $one);
is($one->sql("SELECT next_offset @{[of_stream('seek')]}"), '100', 'seek: the node shows where it goes on');
call('resume_stream', '{"name": "seek"}', $one);
wait_read('seek', 240, $one);
my ($moved) = shards_of($one);
give_shard($one, $two, $moved);
$two->poll_query_until('postgres', "SELECT worker_pid IS NOT NULL FROM profile_stream.stat_partitions WHERE stream = 'seek'");
my ($back) = grep { $_ != $moved } shards_of($two);
give_shard($two, $one, $back);
ok($one->poll_query_until('postgres', "SELECT count(*) = 0 FROM public.rows_of('shard_offsets', 'stream_id, seek_no') r WHERE r = '($stream_ids{seek},0)'"), 'seek: a shard that comes to the node that has run it is moved, too');
catch_up($two);
wait_read('seek', 240);
ok($_->poll_query_until('postgres', "SELECT bool_and(r = '($stream_ids{seek},3,t)') FROM public.rows_of('shard_offsets', 'stream_id, seek_no, next_offset > 100') r WHERE r LIKE '($stream_ids{seek},%'"), 'seek: all shards of ' . $_->name . ' went there') or diag($_->sql("SELECT * FROM public.rows_of('shard_offsets', 'stream_id, topic, seek_no, next_offset')")) foreach @nodes;
is(sum_of('seek', 'duplicates'), 140, 'seek: each message from there on is read again once, for one shard');
is(sum_of('seek', 'applied'), 240, 'seek: and none was applied again');
is(gaps('seek', $_), '240|100|seek', 'seek: ' . $_->name . ' records it') foreach @nodes;
is_balanced('seek');
# later: without a word of where the shards were, a shard stays there
call('pause_stream', '{"name": "seek"}');
call('resume_stream', '{"name": "seek"}');
wait_read('seek', 240);
is(sum_of('seek', 'duplicates'), 140, 'seek: it is done once');
call('pause_stream', '{"name": "seek"}');
foreach my $case (['latest', qr/must have an object/], ['{"seek": 1}', qr/must have an object/], ['{"seek": {"x": 1}}', qr/must name partitions by their numbers/], ['{"seek": {"0": -1}}', qr/must give an offset/])
{
	my ($to, $error) = @$case;
	$one->fails_like("SELECT profile_stream_internal.run_coordinator_call(@{[@calls + 1]}, current_user, 'seek_stream', ARRAY['seek', '$to', NULL], '{2,3,1}')", $error, "a call to $to");
}
call('resume_stream', '{"name": "seek"}');

# retention has passed a shard that comes from a node that was behind; the shards that are further on stay where they are
foreach my $action ('earliest', 'latest')
{
	$broker->create_topic($action, 1);
	produce($action, $action, 0, 48);
	create($action, qq("dedupe_retention": "0", "on_offset_lost": "$action"));
	wait_read($action, 48);
	call('pause_stream', qq({"name": "$action"}), $two);
	wait_paused($action, $two);
	produce($action, $action, 48, 72);
	wait_read($action, 120, $one);
	my ($behind) = shards_of($two);
	catch_up($one);
	wait_paused($action, $one);
	give_shard($two, $one, $behind);
	my @others = shards_of($two);
	$broker->delete_records($action, 0, 96);
	call('resume_stream', qq({"name": "$action"}));
	wait_read($action, 120);
	my $until = $action eq 'earliest' ? 96 : 120;
	is_deeply(versions($action), expected($action, 120, sub { my ($shard, $number) = @_; return $number < 48 || $number >= $until || !grep { $_ == $shard } $behind, @others }), "$action: shards that were behind go on there, and the others where they were");
	like(gaps($action, $_), qr/^4\d\|$until\|offset_lost$/, "$action: " . $_->name . ' records it once') foreach @nodes;
	produce($action, $action, 120, 24);
	wait_read($action, 144);
	is_deeply(versions($action), expected($action, 144, sub { my ($shard, $number) = @_; return $number < 48 || $number >= $until || !grep { $_ == $shard } $behind, @others }), "$action: what comes later is applied once");
	is_balanced($action);
	give_shard($one, $two, $behind);
}

# with stop, the partition stands still on each node with such a shard, until somebody says how to go on: by another option, or by a seek
foreach my $way ('alter', 'seek')
{
	my $name = "stop-$way";
	$broker->create_topic($name, 1);
	produce($name, $name, 0, 48);
	create($name, '"dedupe_retention": "0"');
	wait_read($name, 48);
	call('pause_stream', qq({"name": "$name"}));
	wait_paused($name, $_) foreach @nodes;
	produce($name, $name, 48, 72);
	$broker->delete_records($name, 0, 96);
	call('resume_stream', qq({"name": "$name"}));
	foreach my $node (@nodes)
	{
		ok($node->poll_query_until('postgres', "SELECT state = 'offset_lost' @{[of_stream($name)]}"), "$name: the partition stops on " . $node->name);
		like($node->sql("SELECT error @{[of_stream($name)]}"), qr/^offset 4\d is not in the topic, which has 96 to 120$/, "$name: and says why");
		ok($node->poll_query_until('postgres', "SELECT count(*) > 0 FROM profile_stream.health() WHERE status = 'error' AND subject ~ '$name'"), "$name: so does health()");
		is(gaps($name, $node), '', "$name: nothing was passed over");
	}
	if ($way eq 'alter')
	{
		call('alter_stream', qq({"name": "$name", "on_offset_lost": "earliest"}));
	}
	else
	{
		call('pause_stream', qq({"name": "$name"}));
		call('seek_stream', qq({"name": "$name", "to": "{\\"$name\\": {\\"0\\": 100}}"}));
		call('resume_stream', qq({"name": "$name"}));
	}
	my $until = $way eq 'alter' ? 96 : 100;
	wait_read($name, 120);
	is_deeply(versions($name), expected($name, 120, sub { return $_[1] < 48 || $_[1] >= $until }), "$name: goes on");
	like(gaps($name, $_), $way eq 'alter' ? qr/^4\d\|96\|offset_lost$/ : qr/^4\d\|100\|seek$/, "$name: " . $_->name . ' records it') foreach @nodes;
	is_balanced($name);
}

# A topic is created anew, longer than it was, when shards of both nodes are at different offsets; one shard moves while nothing is read.
$broker->create_topic('anew', 1);
produce('anew', 'old', 0, 48);
create('anew', '"dedupe_retention": "0", "on_offset_lost": "earliest"');
wait_read('anew', 48);
call('pause_stream', '{"name": "anew"}', $two);
wait_paused('anew', $two);
produce('anew', 'old', 48, 48);
wait_read('anew', 96, $one);
catch_up($one);
wait_paused('anew', $one);
my @behind = shards_of($two);
give_shard($two, $one, $behind[0]);
$broker->delete_topic('anew');
$broker->create_topic('anew', 1);
produce('anew', 'new', 0, 144);
call('resume_stream', '{"name": "anew"}', $one);
wait_read('anew', 144, $one);
my $old = expected('anew', 96, sub { my ($shard, $number) = @_; return $number < 48 || !grep { $_ == $shard } @behind });
my $new = expected('anew', 144, sub { my ($shard) = @_; return $shard == $behind[0] || !grep { $_ == $shard } @behind });
is_deeply(versions('anew'), { map { $_ => $old->{$_} + ($new->{$_} // 0) } keys %$old }, 'a topic that was created anew after a shard moved is read from its beginning, for all shards');
is($one->sql("SELECT epoch > 0 @{[of_stream('anew')]}"), 't', 'in another epoch');
# a shard that has only seen the old topic comes to the node that has read the new one: it alone is read from there
give_shard($two, $one, $behind[1]);
ok($one->poll_query_until('postgres', "SELECT next_offset = 144 AND 4 = (SELECT count(*) FROM public.rows_of('shard_offsets', 'stream_id, check_offset > 96') r WHERE r = '($stream_ids{anew},t)') @{[of_stream('anew')]}"), 'a shard that comes later has read it, too');
$new = expected('anew', 144, sub { return 1 });
is_deeply(versions('anew'), { map { $_ => $old->{$_} + $new->{$_} } keys %$old }, 'each of its messages once');
like(gaps('anew', $one), qr/^(\d+\|0\|topic_recreated\n?){2,3}$/, 'all are recorded');
catch_up($two);
is_balanced('anew');
give_shard($one, $two, @behind);
is(join(' ', map { scalar shards_of($_) } @nodes), '2 2', 'each node has two shards again');

# topics that match a pattern: the first ones are read from their end, and one that comes later from its beginning, also for the shards of a node that did not run then
$broker->create_topic('match-a', 1);
produce('match-a', 'a', 0, 24);
create('matching', '"topic_pattern": "^match-", "start_from": "latest", "dedupe_retention": "0", "options": {"topic.metadata.refresh.interval.ms": "1000"}');
wait_read('matching', 24);
$two->stop('immediate');
$broker->create_topic('match-b', 1);
produce('match-b', 'b', 0, 48);
produce('match-a', 'a', 24, 24);
ok($one->poll_query_until('postgres', "SELECT count(*) = 2 @{[of_stream('matching')]} AND next_offset = 48"), 'a topic that came is read by the node that runs');
$two->start;
ok($two->poll_query_until('postgres', "SELECT count(*) = 2 @{[of_stream('matching')]} AND next_offset = 48"), 'and later by the other one');
is_deeply(versions('match-b'), expected('match-b', 48, sub { return 1 }), 'from its beginning on all nodes');
is_deeply(versions('match-a'), expected('match-a', 48, sub { return $_[1] >= 24 }), 'the first one was read from its end');

# a stream that is dropped leaves nothing in the shards: one node drops it, takes a shard of the node that still has it, and then that drops it
call('drop_stream', '{"name": "seek"}', $one);
my $left = "SELECT count(*) FROM public.rows_of('shard_offsets', 'stream_id') r WHERE r = '($stream_ids{seek})'";
is($one->sql($left), '0', 'drop_stream() removes the rows of the shards');
is($two->sql($left), '2', 'the other node has them');
my ($given) = shards_of($two);
give_shard($two, $one, $given);
ok($one->poll_query_until('postgres', "SELECT ($left) = 0"), 'and those of a shard that comes later');
catch_up($two);
is($two->sql($left), '0', 'the other node drops it as well');
is($_->sql("SELECT count(*) FROM public.rows_of('shard_offsets', 'stream_id') r WHERE r = '($stream_ids{matching})'"), 2 * shards_of($_), 'rows of other streams stay on ' . $_->name) foreach @nodes;

$_->stop('immediate') foreach @nodes;
$broker->stop;
done_testing();

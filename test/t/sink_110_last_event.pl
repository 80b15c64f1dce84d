# What goes out says why. Notifications and the changelog topic have the event that was applied last; the topic has who entered and left segments. A stream with watch tells
# only of changes of these columns and attributes, also when a refresh of scores makes them; the listener and the topic of such
# a stream together say what each customer has.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use JSON::PP;
use PostgreSQL::Test::Utils;
use ProfileStream::Broker;
use ProfileStream::Node qw(event);
use ProfileStream::Topic;
use Test::More;
use Time::HiRes qw(usleep);

plan skip_all => 'needs a Kafka (KAFKA_HOME)' unless ProfileStream::Broker::available();

my $broker = ProfileStream::Broker->new(topics => [ [ 'events', 2 ], [ 'other', 1 ], [ 'all', 2 ], [ 'watched', 2 ] ]);
my $node = ProfileStream::Node->start_new('main');
my %topic = map { $_ => ProfileStream::Topic->new($broker, $_) } 'all', 'watched';
my $produced = 0;

$node->sql("SELECT profile_stream.map_attribute('tiered', 'tier', '\$.tier')");
$node->create_stream('all', $broker, 'events', changelog_topic => "'all'", notify_channel => "'told_all'");
$node->create_stream('watcher', $broker, 'other', changelog_topic => "'watched'", notify_channel => "'told_watched'", watch => "'{total_balance,segment,tier}'");
my $listener = $node->background_psql('postgres');
$listener->query_safe('LISTEN told_all; LISTEN told_watched');
my %told = (told_all => [], told_watched => []);

# Takes in what was notified, until a condition holds.
sub hear
{
	my ($condition) = @_;
	for (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
	{
		my $output = $listener->query('SELECT 1');
		push @{ $told{$1} }, decode_json($2) while $output =~ /^Asynchronous notification "(.*?)" with payload "(.*)" received/mg;
		return 1 if $condition->();
		usleep(100_000);
	}
	return 0;
}

# Produces events to a stream's topic, and waits until they are applied.
my %taken;

sub produce
{
	my ($stream, $to, @events) = @_;
	$broker->produce($to, map { [ 0, 'k', $_ ] } @events);
	return $node->wait_taken($stream, $taken{$stream} += @events);
}

sub customers { return join(' ', map { $_->{customerId} } @{ $told{ $_[0] } }); }

# The last message of each customer in a topic.
sub last_messages
{
	my ($name) = @_;
	ok($node->wait_sink($name eq 'all' ? 'all' : 'watcher', 'backlog = 0', 'changelog'), "$name: delivered");
	my %last = map { $_->[2] => $_->[3] eq '-' ? undef : decode_json($_->[3]) } $topic{$name}->messages;
	return \%last;
}

# the event that was applied last, of several in a batch, and of batches
ok(produce('all', 'events',
		event('e1', 'ada', more => ',"source":"web"'),
		event('e2', 'ada', type => 'heard', timestamp => '2026-01-02T00:00:00Z', more => ',"source":"app \"x\""'),
		event('e3', 'bob')), 'applied');
ok(hear(sub { customers('told_all') =~ /bob/ && customers('told_all') =~ /ada/ }), 'all: is told');
my ($ada) = grep { $_->{customerId} eq 'ada' } reverse @{ $told{told_all} };
is_deeply($ada->{lastEvent}, { eventId => 'e2', timestamp => '2026-01-02T00:00:00.000Z', source => 'app "x"' }, 'notification: the last event');
is($ada->{updatedAt}, $ada->{lastEvent}{timestamp}, 'notification: whose time the profile has');
my $last = last_messages('all');
is_deeply($last->{ada}{lastEvent}, $ada->{lastEvent}, 'topic: the same');
is_deeply($last->{bob}{lastEvent}, { eventId => 'e3', timestamp => '2026-01-01T00:00:00.000Z', source => undef }, 'topic: an event without a source');
is(customers('told_watched'), '', 'watcher: nobody changed what it watches');
is_deeply(last_messages('watched'), {}, 'and its topic is empty');

# a change of another stream is told in the topic of the one that watches it, and not on its channel, which is for its own
ok(produce('all', 'events', event('e4', 'bob', type => 'account.opened', payload => '{"initialBalance": 5}', more => ',"source":"core"')), 'a balance changes');
is_deeply([ sort keys %{ last_messages('watched') } ], ['bob'], 'watcher: its topic has who changed');
is(last_messages('watched')->{bob}{lastEvent}{eventId}, 'e4', 'with the event');

# its own events, and those of apply_event()
ok(produce('watcher', 'other', event('o1', 'eve'), event('o2', 'eve', type => 'tiered', payload => '{"tier": "gold"}'), event('o3', 'joe')), 'an attribute changes');
ok(produce('watcher', 'other', event('o4', 'eve', type => 'tiered', payload => '{"tier": "gold"}'), event('o5', 'joe', type => 'account.opened', payload => '{"initialBalance": 1}')), 'and a balance');
ok(hear(sub { customers('told_watched') =~ /joe/ }), 'watcher: is told');
is(customers('told_watched'), 'eve joe', 'watcher: of who changed, once');
is($told{told_watched}[0]{lastEvent}{eventId}, 'o2', 'with the event') if @{ $told{told_watched} } && $told{told_watched}[0]{version} == 2;
$node->sql(qq(SELECT profile_stream.apply_event('{"eventId": "s$_", "customerId": "sql$_", "eventType": "account.opened", "timestamp": "2026-01-01T00:00:00Z", "payload": {"initialBalance": $_}}'))) foreach 0, 1;
is_deeply([ sort keys %{ last_messages('watched') } ], [ 'bob', 'eve', 'joe', 'sql1' ], 'watcher: its topic has who changed by apply_event()');
is(scalar(keys %{ last_messages('all') }), 6, 'all: its topic has everybody');

# a refresh of scores: the segment of one customer, and other scores of another
@{ $told{$_} } = () foreach keys %told;

$node->sql('CALL profile_stream.refresh_scores()');
last_messages('watched');
hear(sub { 1 });
@{ $told{$_} } = () foreach keys %told;
$node->sql("UPDATE profile_stream.materialized_profiles SET segment = 'other', scored_at = NULL WHERE customer_id = 'ada';
	UPDATE profile_stream.materialized_profiles SET churn_risk_score = 0.0625, scored_at = NULL WHERE customer_id = 'eve'");
my $before = scalar($topic{watched}->messages);
my $before_all = scalar($topic{all}->messages);
$node->sql('CALL profile_stream.refresh_scores()');
ok(hear(sub { customers('told_watched') ne '' }), 'scores: watcher is told');
is(customers('told_watched'), 'ada', 'scores: of the segment that changed');
is($told{told_watched}[0]{lastEvent}, undef, 'scores: by no event');
is(customers('told_all'), '', 'scores: who watches nothing is told by segment_changes alone');
my $watched = last_messages('watched');
my $all = last_messages('all');
my @more = $topic{watched}->messages;
is(scalar(@more), $before + 1, 'scores: its topic has one message more');
is($watched->{ada}{profile}{segment}, $all->{ada}{profile}{segment}, 'scores: with the segment');
is($watched->{ada}{lastEvent}, undef, 'scores: and no event');
@more = $topic{all}->messages;
is(scalar(@more), $before_all + 2, 'scores: the topic that watches nothing has both');

# who enters and leaves segments: live, in batch, and all changes since the last message, each once
sub changes_of
{
	my ($name, $customer) = @_;
	my $message = last_messages($name)->{$customer};
	return [ map { [ @$_{qw(kind from to eventId)} ] } @{ $message->{segmentChanges} } ];
}

$node->sql(q(SELECT profile_stream.create_segment('rich', 'total_balance > 1000', quiet_period => '0'), profile_stream.create_segment('named', 'first_name > ''A''', evaluate => 'batch')));
ok(produce('all', 'events', event('r1', 'eve', type => 'account.opened', payload => '{"initialBalance": 2000}'), event('r2', 'joe', type => 'customer.profile.updated', payload => '{"firstName": "Joe"}')), 'applied');
is_deeply(changes_of($_, 'eve'), [ [ 'rule', undef, 'rich', 'r1' ] ], "segments: $_ says who entered, and by which event") foreach 'all', 'watched';
is_deeply(changes_of('all', 'joe'), [], 'segments: nothing of who did not');
$node->sql('CALL profile_stream.refresh_segments()');
is_deeply(changes_of($_, 'joe'), [ [ 'rule', undef, 'named', undef ] ], "segments: $_ says who entered by a refresh") foreach 'all', 'watched';
$node->sql(join(';', 'BEGIN', (map { qq(SELECT profile_stream.apply_event('{"eventId": "r$_", "customerId": "eve", "eventType": "account.opened", "timestamp": "2026-01-03T00:00:00Z", "payload": {"initialBalance": @{[$_ % 2 ? -2000 : 2000]}}}')) } 3 .. 5), 'COMMIT'));
is_deeply(changes_of('all', 'eve'), [ [ 'rule', 'rich', undef, 'r3' ], [ 'rule', undef, 'rich', 'r4' ], [ 'rule', 'rich', undef, 'r5' ] ], 'segments: all changes since the last message are in the next one');
my @told_changes = map { $_->{changeId} } map { @{ decode_json($_->[3])->{segmentChanges} } } grep { $_->[3] ne '-' } $topic{all}->messages;
is(join(' ', sort { $a <=> $b } @told_changes), $node->sql("SELECT string_agg(change_id::text, ' ' ORDER BY change_id) FROM profile_stream.segment_changes"), 'segments: the topic has each change once');

# an erasure is told to all; who comes back has no event of before
$node->set_failpoint('relay_before_send:sleep=2000');
ok(produce('all', 'events', event('e5', 'bob', type => 'account.opened', payload => '{"initialBalance": 5}')), 'changed');
$node->sql("SELECT profile_stream.forget_customer('bob'); SELECT profile_stream.forget_customer('sql0')");
ok($node->poll_query_until('postgres', "SELECT NOT EXISTS (SELECT FROM profile_stream_internal.outbox) AND NOT EXISTS (SELECT FROM profile_stream_internal.sink_pending WHERE last_event ~ 'e5')"), 'forgotten: nothing is kept of the event');
$node->set_failpoint('');
foreach my $name ('all', 'watched')
{
	my $messages = last_messages($name);
	ok(exists $messages->{bob} && !defined $messages->{bob}, "forgotten: $name has no value");
	ok(exists $messages->{sql0} && !defined $messages->{sql0}, "forgotten: $name has none of one who was never told, either");
}

# one notification for each batch counts who is told of
$node->sql("SELECT profile_stream.alter_stream('watcher', notify => 'batch', watch => '{email}')");
ok($node->wait_state('watcher', 'running'), 'altered');
hear(sub { customers('told_watched') =~ /sql0/ });
@{ $told{$_} } = () foreach keys %told;
ok(produce('watcher', 'other', event('o6', 'eve'), event('o7', 'joe')), 'nothing that is watched');
ok(produce('watcher', 'other', event('o8', 'eve'), event('o9', 'joe', type => 'customer.profile.updated', payload => '{"email": "j@x"}')), 'and something');
ok(hear(sub { @{ $told{told_watched} } > 0 }), 'batch: is told');
is_deeply($told{told_watched}, [ { stream => 'watcher', customers => 1, events => 1 } ], 'batch: of one customer');

# who does not watch segments is not told of them
my $unwatched = scalar(() = $topic{watched}->messages);
ok(produce('all', 'events', event('r6', 'eve', type => 'account.opened', payload => '{"initialBalance": 2000}')), 'entered');
is_deeply(changes_of('all', 'eve'), [ [ 'rule', undef, 'rich', 'r6' ] ], 'segments: the other stream is told');
last_messages('watched');
is(scalar(() = $topic{watched}->messages), $unwatched, 'segments: who does not watch them is not');

# a backfill tells what its stream watches
@{ $told{$_} } = () foreach keys %told;
my @filled = (event('f1', 'eve'), event('f2', 'joe', type => 'customer.profile.updated', payload => '{"email": "joe@x"}'));
$node->sql("CALL profile_stream.backfill('watcher', \$\$SELECT e::jsonb AS event FROM (VALUES ('$filled[0]'), ('$filled[1]')) v(e)\$\$)");
ok(hear(sub { @{ $told{told_watched} } > 0 }), 'backfill: is told');
is_deeply($told{told_watched}, [ { stream => 'watcher', customers => 1, events => 1 } ], 'backfill: of one customer');

$listener->quit;
$node->is_clean('end');
$node->stop('fast');
$broker->stop;
done_testing();

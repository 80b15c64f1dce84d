# Topics with nothing but bad messages, with more partitions than before, with transactions, or compacted; and messages
# that are read again. PS_SEED repeats a run.

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

my $seed = $ENV{PS_SEED} // int(rand(1_000_000));
srand($seed);
my $broker = ProfileStream::Broker->new(topics => [ [ 'bad', 4 ], [ 'again', 4 ], [ 'grows', 4 ], [ 'trans', 2 ], [ 'compact', 3 ] ]);
my $node = ProfileStream::Node->start_new('main');
my $number = 0;

# A row with an event on a partition, of one of a hundred customers.
sub row
{
	my ($partition, $customer) = @_;
	$customer //= 'c' . $number % 100;
	$number++;
	return [ $partition, $customer, event("e$number", $customer) ];
}

# A stream of a topic over empty tables; it looks for new partitions every second.
sub start
{
	my ($topic, %arguments) = @_;
	$node->create_stream($topic, $broker, $topic, options => q('{"topic.metadata.refresh.interval.ms": 1000}'), %arguments);
	ok($node->wait_state($topic, 'running'), "$topic: the stream runs");
}

sub finish
{
	my ($topic) = @_;
	$node->sql("SELECT profile_stream.drop_stream('$topic')");
	ok($node->wait_worker(0), "$topic: dropped");
	$node->sql('TRUNCATE profile_stream.materialized_profiles, profile_stream_internal.window_chunks, profile_stream_internal.event_id_chunks, profile_stream_internal.dead_letters');
}

sub lag_is_zero
{
	my ($name) = @_;
	ok($node->poll_query_until('postgres', 'SELECT lag = 0 FROM profile_stream.stat_streams'), "$name: the lag is 0")
	  or diag($node->sql('SELECT * FROM profile_stream.stat_partitions'));
}

# Everything that an event leaves, as one text.
sub effects
{
	return $node->sql('SELECT count(*), sum(hashtextextended(p::text, 0)) FROM profile_stream.materialized_profiles p',
		'SELECT count(*), sum(hashtextextended(w::text, 0)) FROM profile_stream_internal.window_chunks w',
		'SELECT count(*), sum(hashtextextended(e::text, 0)) FROM profile_stream_internal.event_ids e',
		'SELECT count(*), sum(hashtextextended(d::text, 0)) FROM profile_stream.dead_letters d');
}

# nothing good: all of it is dead letters, exactly
my $bad = $ENV{PS_EVENTS} // 50_000;
note("seed $seed, $bad bad messages");
$broker->produce('bad', map {
		my $n = $_;
		[ $n % 4, "k$n",
			('{"n":' . $n, qq({"eventId":"e$n","n":$n}),
				qq({"eventId":"e$n","customerId":"c","eventType":"transaction.completed","timestamp":"yesterday","n":$n}),
				qq({"eventId":"e$n","customerId":"c","eventType":"transaction.completed","timestamp":1700000000000,"payload":{"amount":"x"},"n":$n})
			)[ $n / 4 % 4 ] ]
	} 0 .. $bad - 1);
start('bad', dead_letter_pause_ratio => 1);
ok($node->wait_taken('bad', $bad), 'bad: everything is taken');
is($node->sql(<<"END"), "$bad|$bad|0|$bad", 'bad: each message is a dead letter, with its bytes, at its offset');
SELECT count(*), count(DISTINCT n), min(n), count(*) FILTER (WHERE partition = n % 4 AND kafka_offset = n / 4 AND convert_from(key, 'UTF8') = 'k' || n)
FROM (SELECT *, substring(encode(value, 'escape') from '"n":(\\d+)')::int AS n FROM profile_stream.dead_letters) d
END
is($node->sql("SELECT string_agg(kind || ' ' || n, ', ' ORDER BY kind) FROM (SELECT kind, count(*) AS n FROM profile_stream.dead_letters GROUP BY 1) k"),
	'handler ' . $bad / 4 . ', invalid ' . $bad / 2 . ', malformed ' . $bad / 4, 'bad: of the right kinds');
is($node->sql('SELECT sum(applied), sum(duplicates), sum(dead), sum(tombstones) FROM profile_stream_internal.stream_offsets'), "0|0|$bad|0", 'bad: counted exactly');
is($node->sql('SELECT (SELECT count(*) FROM profile_stream.materialized_profiles) + (SELECT count(*) FROM profile_stream_internal.event_ids)'), '0', 'bad: no other effect');
my $before = effects();
$node->sql("UPDATE profile_stream_internal.stream_offsets SET next_offset = next_offset / 2");
$broker->produce('bad', map { [ $_, 'k', '{' ] } 0 .. 3);
ok($node->wait_taken('bad', $bad + $bad / 2 + 4), 'bad: half of it is read again');
$node->sql('DELETE FROM profile_stream_internal.dead_letters WHERE kafka_offset >= ' . $bad / 4);
is(effects(), $before, 'bad: and is not dead twice');
finish('bad');

# messages that are read again, from anywhere and at any time, do nothing
my $events = ProfileStream::Node::generate(seed => $seed, events => $ENV{PS_EVENTS} // 24_000, customers => 2_000, parts => 6);
my @sizes = map { my $lines = () = slurp_file($_) =~ /\n/g; $lines } @{ $events->{files} };
my $produced = 0;
my $last = pop @{ $events->{files} };
start('again');
foreach my $file (@{ $events->{files} })
{
	my $producer = $broker->start_producing('again', $file);
	my $back = rand();

	$node->wait_taken('again', $produced + 1);
	$node->sql("UPDATE profile_stream_internal.stream_offsets SET next_offset = floor(next_offset * $back)");
	note(sprintf('to %.2f of the offsets', $back));
	$broker->finish_producing($producer);
	$produced += shift @sizes;
}
# the worker notices when it moves an offset on: this is on every partition
$broker->produce_file('again', $last);
push @{ $events->{files} }, $last;
ok($node->poll_query_until('postgres', "SELECT sum(next_offset) = $events->{events} FROM profile_stream_internal.stream_offsets"),
	'again: the stream gets to the end');
cmp_ok($node->sql('SELECT sum(applied + duplicates + dead + tombstones) FROM profile_stream_internal.stream_offsets'), '>', $events->{events}, 'again: messages were read twice');
$node->equals_model('again', $events, "again: read twice, seed $seed", effects => 1);
lag_is_zero('again');
finish('again');

# partitions are added while the stream runs; also one that starts at the latest message reads the new ones from 0
$events = ProfileStream::Node::generate(seed => $seed, events => $ENV{PS_EVENTS} // 24_000, customers => 2_000, partitions => 12);
my ($old, $new) = map { "$events->{dir}/$_" } qw(old new);
my $lines = 0;
foreach my $line (split /^/, slurp_file($events->{files}[0]))
{
	my $is_old = (split /\t/, $line)[0] < 4 && $lines++ < $events->{events} / 6;
	append_to_file($is_old ? $old : $new, $line);
}
$events->{files} = [ $old, $new ];
start('grows', start_from => "'latest'");
$broker->produce_file('grows', $old);
$broker->add_partitions('grows', 12);
$broker->produce_file('grows', $new);
ok($node->wait_taken('grows', $events->{events}), 'grows: everything is taken');
is($node->sql('SELECT count(*), max(start_offset) FROM profile_stream_internal.stream_offsets'), '12|0', 'grows: all partitions are read from 0');
$node->equals_model('grows', $events, "grows: 4 to 12 partitions, seed $seed");
lag_is_zero('grows');
finish('grows');

# transactions: two at a time, committed or aborted at random; only what was committed is seen
start('trans');
my %producers = map { $_ => $broker->start_transactions('trans', $_) } qw(a b);
my ($committed, $aborted) = (0, 0);
$node->sql('CREATE TABLE committed (event_id text)');
foreach my $round (1 .. 12)
{
	my %rows = map { $_ => [ map { row($_ % 2) } 1 .. 500 ] } qw(a b);
	$broker->tell($producers{$_}, ProfileStream::Broker::lines(@{ $rows{$_} }), 'flush') foreach qw(a b);
	foreach my $id (qw(a b))
	{
		# the first and the last round have one of each
		my $commit = $round == 1 || $round == 12 ? $id eq 'a' : rand() < 0.5;
		$broker->tell($producers{$id}, $commit ? 'commit' : 'abort');
		$commit ? $committed += 500 : ($aborted += 500);
		$node->sql("INSERT INTO committed VALUES " . join(',', map { "('" . ($_->[2] =~ /"eventId":"(\w+)"/)[0] . "')" } @{ $rows{$id} })) if $commit;
	}
}
note("$committed committed, $aborted aborted");
my $same = 'SELECT count(*) FROM committed c FULL JOIN profile_stream_internal.event_ids e ON e.hash = profile_stream_internal.event_id_hash(c.event_id) WHERE c.event_id IS NULL OR e.hash IS NULL';
ok($node->wait_taken('trans', $committed), 'trans: what was committed is taken');
lag_is_zero('trans: behind the last aborted transaction');
is($node->sql($same), '0', 'trans: and nothing else');

# an open transaction holds back what comes behind it, and the lag says so
$broker->tell($producers{a}, ProfileStream::Broker::lines(map { row($_ % 2) } 1 .. 100), 'flush');
$broker->produce('trans', map { row($_ % 2) } 1 .. 100);
ok($node->poll_query_until('postgres', 'SELECT lag >= 200 FROM profile_stream.stat_streams'), 'trans: the lag counts what is held back');
is($node->taken('trans'), $committed, 'trans: nothing behind an open transaction is taken');
ok($node->wait_state('trans', 'running'), 'trans: the stream is not in error');
$broker->tell($producers{a}, 'commit');
ok($node->wait_taken('trans', $committed += 200), 'trans: it goes on when the transaction ends');
lag_is_zero('trans');
is($node->sql('SELECT sum(version) FROM profile_stream.materialized_profiles'), $committed, 'trans: each once');

# a transaction whose producer died is ended by the broker
my $hung = $broker->start_transactions('trans', 'hung', 2_000);
$broker->tell($hung, ProfileStream::Broker::lines(map { row($_ % 2) } 1 .. 100), 'flush');
$hung->{harness}->kill_kill;
$broker->produce('trans', map { row($_ % 2) } 1 .. 100);
ok($node->wait_taken('trans', $committed += 100), 'trans: a hung transaction does not stop the stream for ever');
lag_is_zero('trans: after a hung transaction');
is($node->sql('SELECT sum(version) FROM profile_stream.materialized_profiles'), $committed, 'trans: what hung is not seen');
$_->{harness}->kill_kill foreach values %producers;
finish('trans');

# compaction: tombstones, gaps, and a partition that stays empty
# Records in the files of a partition, without the marks of transactions.
sub records
{
	my ($partition) = @_;
	my $records = 0;
	foreach my $file (glob("$broker->{dir}/data/compact-$partition/*.log"))
	{
		# a cleaner may just have replaced it
		my $bytes = eval { slurp_file($file) } // next;
		for (my $at = 0; $at + 61 <= length($bytes);)
		{
			my ($length, $attributes, $count) = unpack('x8 N x9 n x34 N', substr($bytes, $at, 61));
			$records += $count unless $attributes & 0x20;
			$at += 12 + $length;
		}
	}
	return $records;
}

$broker->set_settings('compact', 'cleanup.policy' => 'compact', 'segment.ms' => 1, 'min.cleanable.dirty.ratio' => 0.01);
my $rounds = 6;
foreach my $round (1 .. $rounds)
{
	$broker->produce('compact', map { my $n = $_; $n % 7 == $round ? [ $n % 2, "c$n", undef ] : row($n % 2, "c$n") } 0 .. 199);
}
my $written = $rounds * 200;
my $compacted = 0;
for (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
{
	last if $compacted = records(0) < 0.7 * $written / 2 && records(1) < 0.7 * $written / 2;
	usleep(100_000);
}
ok($compacted, 'compact: the topic has gaps');
$broker->set_settings('compact', 'cleanup.policy' => 'delete');
my ($left, $unchanged) = (0, 0);
for (my $seen = -1; $unchanged < 5; $seen = $left)
{
	usleep(100_000);
	$left = records(0) + records(1);
	$unchanged = $left == $seen ? $unchanged + 1 : 0;
}
note("$left of $written records are left");
start('compact');
ok($node->wait_taken('compact', $left), 'compact: everything that is left is taken');
lag_is_zero('compact');
is($node->sql('SELECT sum(applied + tombstones), sum(duplicates), sum(dead), sum(next_offset), bool_and(tombstones > 0 OR partition = 2) FROM profile_stream_internal.stream_offsets'),
	"$left|0|0|$written|t", 'compact: the counts add up, over the gaps to the end');
is($node->sql('SELECT applied, next_offset, end_offset FROM profile_stream_internal.stream_offsets WHERE partition = 2'), '0|0|0', 'compact: an empty partition is at its end');
is($node->sql('SELECT sum(version) = (SELECT sum(applied) FROM profile_stream_internal.stream_offsets) FROM profile_stream.materialized_profiles'), 't', 'compact: each once');
$broker->produce('compact', map { row($_, 'last') } 0 .. 2);
ok($node->wait_taken('compact', $left + 3), 'compact: it goes on, in the empty partition as well');

$node->is_clean('end');
$node->stop('fast');
$broker->stop;
done_testing();

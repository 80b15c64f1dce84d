# A session keeps the lock of a customer. The stream holds this customer's events and applies those of all others. When
# the lock is free, the held events are applied in order. Tested over kills, stops, a pause and a full buffer, with and
# without reordering. PS_SEED repeats a run.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use MIME::Base64;
use PostgreSQL::Test::Utils;
use ProfileStream::Broker;
use ProfileStream::Node;
use Test::More;

plan skip_all => 'needs a Kafka (KAFKA_HOME)' unless ProfileStream::Broker::available();

my $seed = $ENV{PS_SEED} // int(rand(1_000_000));
my $size = 4_200;
my $broker = ProfileStream::Broker->new(topics => [ [ 'events', 4 ], [ 'disorder', 4 ] ]);
my $node = ProfileStream::Node->start_new('main', conf => "max_prepared_transactions = 2\n");
my $session = $node->background_psql('postgres', on_error_stop => 1);
my ($stream, $events, @files, $produced);

# a hot customer of the generator, whom every file of events touches
my $customer = 'NULL';
my $version = "SELECT coalesce(max(version), 0) FROM profile_stream.materialized_profiles WHERE customer_id = '$customer'";

sub generate
{
	my (%options) = @_;
	$events = ProfileStream::Node::generate(seed => $seed, events => $size * $options{parts}, %options);
	@files = @{ $events->{files} };
	$produced = 0;
}

# Produces the next file; returns how many of its messages are of the customer, by what they say or, those that do not
# decode, by their key.
sub produce_next
{
	my $file = shift @files or die 'no more events';
	my $text = slurp_file($file);

	$broker->produce_file($stream, $file);
	$produced += () = $text =~ /\n/g;
	return scalar(grep { /^\d+\t([^\t]*)\t([^-].*|)$/ && ($1 eq $customer || decode_base64($2) =~ /"\Q$customer\E"/) } split(/\n/, $text));
}

# Waits for a condition over the stream's counters.
sub wait_stat
{
	my ($condition, $name) = @_;
	ok($node->poll_query_until('postgres', "SELECT $condition FROM profile_stream.stat_streams WHERE stream = '$stream'"), $name)
	  or diag($node->sql('SELECT * FROM profile_stream.stat_streams', 'SELECT * FROM profile_stream.stat_partitions'));
	$node->is_balanced($stream, $name);
}

# The customer's lock, in a transaction that a crash does not end when it is prepared.
sub lock_customer
{
	my ($prepare) = @_;
	$session->query_safe("BEGIN; SELECT profile_stream.lock_customer('$customer')");
	$session->query_safe("PREPARE TRANSACTION 'kept'") if $prepare;
	$session->quit if $prepare;
}

sub unlock_customer
{
	my ($prepared) = @_;
	return $session->query_safe('COMMIT') unless $prepared;
	$node->sql("COMMIT PREPARED 'kept'");
	$session = $node->background_psql('postgres', on_error_stop => 1);
}

# While the lock is kept everything else is applied, and nothing of the customer.
sub others_apply
{
	my ($name, $before, $most) = @_;

	wait_stat("held > 0 AND applied + duplicates + dead + late + tombstones + held = $produced", "$name: all others are applied");
	cmp_ok($node->sql("SELECT held FROM profile_stream.stat_streams WHERE stream = '$stream'"), '<=', $most, "$name: no other is held");
	is($node->sql($version), $before, "$name: the customer is as it was");
	ok($node->wait_state($stream, 'running'), "$name: the stream runs");
	is($node->sql(<<"END"), 't|1', "$name: the stored offset is not past what is held");
SELECT bool_and(next_offset + held <= end_offset), count(*) FILTER (WHERE next_offset < end_offset)
FROM profile_stream.stat_partitions WHERE stream = '$stream'
END
}

sub catches_up
{
	my ($name, $before) = @_;

	wait_stat("held = 0 AND held_bytes = 0 AND applied + duplicates + dead + late + tombstones = $produced", "$name: everything is applied");
	cmp_ok($node->sql($version), '>', $before, "$name: the customer catches up");
	ok($node->wait_state($stream, 'running'), "$name: the stream runs");
}

# The customer is locked while two files of events come, and something happens.
sub locked
{
	my ($name, %options) = @_;
	my $before = $node->sql($version);
	my $from = -s $node->logfile;
	my $most;

	lock_customer($options{prepare});
	$most = produce_next();
	others_apply($name, $before, $most);
	ok($node->wait_for_log(qr/stream "\Q$stream\E" defers customer "\Q$customer\E"/, $from), "$name: a line says so");
	if ($options{fault})
	{
		$options{fault}->();
		others_apply("$name, afterwards", $before, $most);
	}
	$most += produce_next();
	others_apply("$name, more", $before, $most);
	$from = -s $node->logfile;
	unlock_customer($options{prepare});
	catches_up($name, $before);
	ok($node->wait_for_log(qr/has applied the deferred events of customer "\Q$customer\E"/, $from), "$name: and another one");
}

sub kill_worker
{
	my $pid = $node->stream_pid($stream);
	$node->kill_process($pid) or die 'could not kill the worker';
	ok($node->wait_stream_pid($stream, $pid), 'killed, a worker comes back');
}

# as they come
$stream = 'events';
generate(parts => 14, customers => 40);
$node->create_stream($stream, $broker, $stream, batch_size => 500);
produce_next();
ok($node->wait_taken($stream, $produced), 'the stream runs');

locked('kept by a session');
locked('the worker killed', prepare => 1, fault => \&kill_worker);
locked('the server stopped', prepare => 1, fault => sub { $node->stop('immediate'); $node->start; });
locked('paused', fault => sub {
		$node->sql("SELECT profile_stream.pause_stream('$stream')");
		ok($node->wait_stopped($stream), 'paused: while a customer is deferred');
		$node->sql("SELECT profile_stream.resume_stream('$stream')");
	});
cmp_ok($node->sql("SELECT replayed FROM profile_stream.stat_streams WHERE stream = '$stream'"), '>', 0, 'messages were read again');
$node->sql("SELECT profile_stream.alter_stream('$stream', customer_lock_timeout => '0')");
locked('deferred at once');

# more than may be held: nothing more is read
$node->sql("ALTER SYSTEM SET profile_stream.reorder_memory = '64kB'");
$node->reload;
lock_customer();
my $before = $node->sql($version);
my $most = produce_next() + produce_next();
my $pid = $session->query_safe('SELECT pg_backend_pid()');
ok( $node->poll_query_until('postgres',
		"SELECT state = 'retrying' AND error ~ 'memory; customer \"$customer\" is deferred since .*: process $pid holds its lock' FROM profile_stream.stat_streams"),
	'a full buffer: the stream says who keeps the lock') or diag($node->sql('SELECT * FROM profile_stream.stat_streams'));
wait_stat("held BETWEEN 1 AND 200 AND held_bytes > 0 AND applied + duplicates + dead + tombstones < $produced - $most",
	'a full buffer: no more is held than fits');
is($node->sql($version), $before, 'a full buffer: the customer is as it was');
unlock_customer();
catches_up('a full buffer', $before);
$node->sql('ALTER SYSTEM RESET profile_stream.reorder_memory');
$node->reload;

SKIP:
{
	skip 'built without failpoints', 1 unless $node->has_failpoints;

	# a batch of many transactions, and the lock is free again after the first that missed it: the others still wait
	$node->sql('ALTER SYSTEM SET profile_stream.batch_customers = 4', "SELECT profile_stream.alter_stream('$stream', batch_size => 5000)");
	$node->set_failpoint('after_commit:sleep=10');
	$node->sql("SELECT profile_stream.pause_stream('$stream')");
	ok($node->wait_stopped($stream), 'free within a batch: paused');
	lock_customer();
	produce_next();
	my $from = -s $node->logfile;
	$node->sql("SELECT profile_stream.resume_stream('$stream')");
	ok($node->wait_for_log(qr/stream "\Q$stream\E" defers customer "\Q$customer\E"/, $from), 'free within a batch: deferred');
	unlock_customer();
	$node->set_failpoint('');
	ok($node->wait_for_log(qr/has applied the deferred events of customer "\Q$customer\E"/, $from), 'free within a batch: applied');
}
produce_next() while @files;
catches_up('at last', 0);
$node->equals_model($stream, $events, "seed $seed");
$node->sql("SELECT profile_stream.pause_stream('$stream')");
ok($node->wait_stopped($stream), 'paused');

# out of order: what is due of the customer waits behind what is deferred
$node->sql('TRUNCATE profile_stream.materialized_profiles, profile_stream_internal.window_chunks, profile_stream_internal.event_id_chunks');
$stream = 'disorder';
generate(parts => 5, customers => 400, block => $size);	# so many that 30 of one suffice
$node->create_stream($stream, $broker, $stream, reorder_wait => "'1 hour'", reorder_buffer_size => 30, customer_lock_timeout => "'100 ms'");
produce_next();
ok($node->wait_read($stream, $produced), 'disorder: the stream runs');
foreach my $prepare (0, 1)
{
	my $name = $prepare ? 'disorder, killed' : 'disorder';
	my $from = -s $node->logfile;
	$before = $node->sql($version);
	my $applied = $node->sql("SELECT applied FROM profile_stream.stat_streams WHERE stream = '$stream'");
	lock_customer($prepare);
	produce_next();
	ok($node->wait_for_log(qr/stream "disorder" defers customer "\Q$customer\E"/, $from), "$name: the customer is deferred");
	kill_worker() if $prepare;
	ok($node->wait_read($stream, $produced), "$name: everything is read");
	wait_stat("applied > $applied + 100", "$name: others are applied");
	produce_next();
	ok($node->wait_read($stream, $produced), "$name: more is read");
	wait_stat("applied > $applied + 200", "$name: more of others are applied");
	is($node->sql($version), $before, "$name: the customer is as it was");
	unlock_customer($prepare);
	ok($node->poll_query_until('postgres', "SELECT ($version) > $before"), "$name: the customer catches up");
}
$node->sql("SELECT profile_stream.pause_stream('$stream')");
ok($node->wait_stopped($stream), 'disorder: paused');
wait_stat('held = 0', 'disorder: the pause applies what is held');
$node->equals_model($stream, $events, "disorder, seed $seed", model => ['--sort']);

$session->quit;
$node->is_clean('end');
$node->stop('fast');
$broker->stop;
done_testing();

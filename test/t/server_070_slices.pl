# Three servers each read a part of a topic, and one of them reads all profiles through postgres_fdw: one row for each customer, equal
# to what one server has that reads the whole topic. The check finds what is wrong: a partition with two readers or none, a customer on
# two servers, a server that is down. Partitions move, a server is copied to share its part, and a topic with more partitions takes over.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use ProfileStream::Broker;
use ProfileStream::Node qw(event);
use Test::More;

plan skip_all => 'needs a Kafka (KAFKA_HOME)' unless ProfileStream::Broker::available();

my %arguments = (seed => $ENV{PS_SEED} // 70, events => 6_000, customers => 300, parts => 3);
my $events = ProfileStream::Node::generate(%arguments, partitions => 6);
my $broker = ProfileStream::Broker->new(topics => [ [ 'events', 6 ], [ 'wider', 8 ], [ 'keyed', 5 ] ]);
my %nodes = map { $_ => ProfileStream::Node->start_new($_, init => { allows_streaming => 1 }) } qw(a b c);
my ($a, $b, $c) = @nodes{qw(a b c)};
my %reads = (a => '0,1', b => '2,3', c => '4,5');
my $facts = 'SELECT customer_id, version, updated_at, total_balance, account_count, attributes, event_counts FROM profile_stream.profiles';

# The streams of these servers have read what is in their partitions.
sub wait_slices
{
	my ($database, @names) = @_;
	$nodes{$_}->safe_psql($database, "CALL profile_stream.await_stream('crm', '180 s')") foreach @names;
}

# Produces a part of the events; the slices and the whole take it.
sub produce_part
{
	my ($part, @names) = @_;
	$broker->produce_file('events', $events->{files}[$part]);
	wait_slices('whole', 'a');
	wait_slices('postgres', @names);
}

# The union of the servers has the rows of the database that reads everything.
sub equals_whole
{
	my ($name) = @_;
	my $rows = 'SELECT md5(f::text) FROM (%s ORDER BY customer_id COLLATE "C") f';
	my $columns = 'customer_id, version, updated_at, total_balance, account_count, attributes, event_counts';
	my $union = $c->sql(sprintf($rows, "SELECT $columns FROM cluster.facts"));
	my $whole = $a->safe_psql('whole', sprintf($rows, "SELECT $columns FROM ($facts) f"));

	is($c->sql('SELECT count(*) - count(DISTINCT customer_id) FROM cluster.profiles'), '0', "$name: one row for each customer");
	is($union, $whole, "$name: the union is what one server has that reads everything");
}

sub check
{
	return $c->sql("SELECT concat_ws('|', array_to_string(servers, ','), subject, problem) FROM profile_stream.cluster_check() ORDER BY 1");
}

sub set_partitions
{
	my ($name, $partitions) = @_;
	$nodes{$name}->sql("SELECT profile_stream.alter_stream('crm', partitions => '{$partitions}')");
}

foreach my $name (sort keys %nodes)
{
	my $node = $nodes{$name};
	$node->sql("CREATE VIEW public.facts AS $facts", "ALTER SYSTEM SET profile_stream.cluster = '$name'");
	$node->reload;
	$node->create_stream('crm', $broker, 'events', partitions => "'{$reads{$name}}'", options => q('{"topic.metadata.refresh.interval.ms": 1000}'));
}
$a->sql('CREATE DATABASE whole');
$a->safe_psql('whole', 'CREATE EXTENSION profile_stream CASCADE');
$a->safe_psql('whole', "SELECT profile_stream.create_stream('crm', bootstrap_servers => '" . $broker->bootstrap . "', topic => 'events')");
$c->sql('CREATE EXTENSION postgres_fdw',
	map { ("CREATE SERVER $_ FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '" . $nodes{$_}->host . "', port '" . $nodes{$_}->port . "', dbname 'postgres')",
		"CREATE USER MAPPING FOR postgres SERVER $_ OPTIONS (user 'postgres')") } qw(a b));

sub make_view
{
	my ($servers) = @_;
	return $c->sql("SELECT profile_stream.create_cluster_view('{$servers}', local_server => 'c', partitioner => 'consistent', relations => '{public.facts}')");
}

# three slices
produce_part(0, qw(a b c));
make_view('a,b');
is(check(), '', 'the check finds nothing');
equals_whole('three slices');
is($c->sql('SELECT bool_and(profile_stream.cluster_profile(customer_id) IS NOT NULL) FROM cluster.facts'), 't', 'each customer is found');
is($c->sql("SELECT string_agg(server || state, ' ' ORDER BY server) FROM cluster.stat_streams"), 'arunning brunning crunning', 'states of all streams');
is($c->sql("SELECT sum(n) = (SELECT sum(version) FROM cluster.profiles) FROM (SELECT sum(applied) AS n FROM cluster.stat_streams) s"), 't', 'and counters of all');

# a server that is down: the others go on, and the check names it
$b->stop('immediate');
produce_part(1, qw(a c));
like(check(), qr/^b\|server\|could not connect to server "b"/m, 'a server that is down is named');
is(scalar(() = check() =~ /is read by no server that answers/g), 2, 'and so are its partitions');
is($c->sql("SELECT count(*) > 0 FROM cluster.profiles WHERE server <> 'b'"), 't', 'the others are read by their names');
$c->fails_like('SELECT count(*) FROM cluster.profiles', qr/could not connect to server "b"/, 'all of them');
is($c->sql("SELECT bool_and(profile_stream.cluster_profile(customer_id) IS NOT NULL) FROM cluster.facts WHERE server <> 'b'"), 't',
	'a customer of another server is found by the partitioner');
$b->start;
wait_slices('postgres', 'b');
equals_whole('the server is back');
is(check(), '', 'the server is back: the check finds nothing');

# two readers, none, and a partition that moves: its new server reads it from the beginning, then the old one forgets its customers
set_partitions('b', '1,2,3');
like(check(), qr/^a,b\|partition 1 of topic "events"\|is read by several streams$/m, 'two readers of a partition are found');
wait_slices('postgres', 'b');
like(check(), qr/^a,b\|customer "[^"]*.*"\|is on several servers$/m, 'and so are their customers');
set_partitions('b', '2,3');
set_partitions('a', '0');
like(check(), qr/^partition 1 of topic "events"\|is read by no server$/m, 'a partition without a reader is found');
set_partitions('b', '1,2,3');
wait_slices('postgres', 'b');
cmp_ok($a->sql("SELECT profile_stream.prune_slice('{0}', 6, 'consistent')"), '>', 0, 'the old server forgets who moved');
make_view('a,b');
is(check(), '', 'a partition moved: the check finds nothing');
produce_part(2, qw(a b c));
equals_whole('a partition moved');
$a->equals_model('crm', $events, 'the whole', dbname => 'whole');

# a message with another key
my $lost = $c->sql("SELECT customer_id FROM cluster.profiles WHERE server = 'a' AND customer_id ~ '^cust' ORDER BY 1 LIMIT 1");
$broker->produce('events', [ 4, 'other', event('stray', $lost) ]);
wait_slices('postgres', 'c');
wait_slices('whole', 'a');
is(check(), "a,c|customer \"$lost\"|is on several servers", 'its customer is found');
is($c->sql("SELECT sum(other_key) > 0 FROM cluster.stat_streams"), 't', 'and the streams count such messages');
$_->sql("SELECT profile_stream.forget_customer('$lost')") foreach $a, $b, $c;
$a->safe_psql('whole', "SELECT profile_stream.forget_customer('$lost')");
is($c->sql("SELECT count(*) FROM cluster.profiles WHERE customer_id = '$lost'"), '0', 'an erasure on all servers leaves nothing');
is(check(), '', 'and the check finds nothing');

# a server is copied, and the copy takes a part of its partitions
$b->sql("SELECT profile_stream.pause_stream('crm')");
ok($b->wait_stopped('crm'), 'the stream of the origin is paused');
$b->backup('copy');
my $d = $nodes{d} = ProfileStream::Node->new('d');
$d->init_from_backup($b, 'copy');
$d->append_conf('postgresql.conf', "profile_stream.cluster = 'd'");
$d->start;
$d->sql("ALTER SYSTEM SET profile_stream.cluster = 'd'");
$d->reload;
$d->{expected_signals} = 0;
foreach ([ $b, '2,3' ], [ $d, '1' ])
{
	my ($node, $partitions) = @$_;
	$node->sql("SELECT profile_stream.alter_stream('crm', partitions => '{$partitions}')", "SELECT profile_stream.prune_slice('{$partitions}', 6, 'consistent')");
	$node->sql("SELECT profile_stream.resume_stream('crm')");
	ok($node->wait_state('crm', 'running'), "it reads $partitions");
}
$c->sql("CREATE SERVER d FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '" . $d->host . "', port '" . $d->port . "', dbname 'postgres')",
	"CREATE USER MAPPING FOR postgres SERVER d OPTIONS (user 'postgres')");
make_view('a,b,d');
wait_slices('postgres', qw(b d));
is(check(), '', 'a server was copied: the check finds nothing');
equals_whole('a server was copied');

# partitions that are added move customers; so a topic with more of them takes over, in databases beside the old ones
$broker->add_partitions('events', 7);
ok($c->poll_query_until('postgres', 'SELECT bool_and(topic_partitions = 7) FROM cluster.stat_topics'), 'the servers see a partition more');
is(check(), 'partition 6 of topic "events"|is read by no server', 'which nobody reads');
my $wider = ProfileStream::Node::generate(%arguments, partitions => 8);
$broker->produce_file('wider', $_) foreach @{ $wider->{files} };
my %wide = (a => '0,1', b => '2,3', c => '4,5', d => '6,7');
foreach my $name (sort keys %wide)
{
	my $node = $nodes{$name};
	$node->sql('CREATE DATABASE wider');
	$node->safe_psql('wider', 'CREATE EXTENSION profile_stream CASCADE; CREATE EXTENSION postgres_fdw');
	$node->safe_psql('wider', "CREATE VIEW public.facts AS $facts");
	$node->safe_psql('wider', "SELECT profile_stream.create_stream('crm', bootstrap_servers => '" . $broker->bootstrap . "', topic => 'wider', partitions => '{$wide{$name}}')");
}
wait_slices('wider', sort keys %wide);
$c->safe_psql('wider', join(';', map { ("CREATE SERVER $_ FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '" . $nodes{$_}->host . "', port '" . $nodes{$_}->port . "', dbname 'wider')",
		"CREATE USER MAPPING FOR postgres SERVER $_ OPTIONS (user 'postgres')") } qw(a b d))
	. "; SELECT profile_stream.create_cluster_view('{a,b,d}', local_server => 'c', partitioner => 'consistent', relations => '{public.facts}')");
is($c->safe_psql('wider', 'SELECT count(*) FROM profile_stream.cluster_check()'), '0', 'a topic with more partitions: the check finds nothing');
is($c->safe_psql('wider', "SELECT md5(string_agg(f::text, '' ORDER BY customer_id COLLATE \"C\")) FROM (SELECT customer_id, version, total_balance FROM cluster.facts WHERE customer_id <> '$lost') f"),
	$a->safe_psql('whole', "SELECT md5(string_agg(f::text, '' ORDER BY customer_id COLLATE \"C\")) FROM (SELECT customer_id, version, total_balance FROM profile_stream.profiles) f"),
	'and every customer is as before');

# the partition that librdkafka chooses
$a->create_stream('keys', $broker, 'keyed');
$broker->produce('keyed', map { [ -1, "key $_", 'no event' ] } 1 .. 200);
ok($a->wait_taken('keys', 200), 'messages whose partition the producer chose');
is($a->sql("SELECT count(*), count(DISTINCT partition), count(*) FILTER (WHERE partition <> profile_stream.kafka_partition(key_text, 5)) FROM profile_stream.dead_letters WHERE stream = 'keys'"),
	'200|5|0', 'kafka_partition() chooses as librdkafka does');

foreach my $node (map { $nodes{$_} } sort keys %nodes)
{
	$node->is_clean($node->name);
	$node->stop('fast');
}
$broker->stop;
done_testing();

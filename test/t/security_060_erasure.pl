# A customer is erased. No byte of the id is left in any table, dump or Redis key but the salted hash, and the changelog
# topic gets a tombstone. A seek, a rebuild or events that a worker holds bring nothing back of a blocked customer.

use strict;
use warnings;

use FindBin;
use MIME::Base64;
use POSIX qw(strftime);
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Utils;
use ProfileStream::Broker;
use ProfileStream::Node qw(event);
use ProfileStream::Redis;
use ProfileStream::Topic;
use Test::More;

plan skip_all => 'needs a Kafka (KAFKA_HOME)' unless ProfileStream::Broker::available();

my $trace = 'victim-4711';    # part of the id that no escape changes
my $id = qq(Zoë "7"/$trace);
my $plain = $id =~ s/"/\\"/gr;    # in JSON
my $escaped = "Zo\\u00eb \\\"7\\\"\\/$trace";
my $broker = ProfileStream::Broker->new(topics => [ [ 'events', 2 ], [ 'held', 1 ], [ 'kept', 1 ], [ 'changelog', 1 ] ]);
my $node = ProfileStream::Node->start_new('main');
my $redis = ProfileStream::Redis->new;
my $updates = ProfileStream::Topic->new($broker, 'changelog');

# An event of a customer with an amount, which may be anything.
sub payment
{
	my ($customer, $id, $when, $amount) = @_;
	return event($id, $customer, type => 'transaction.completed', timestamp => $when, payload => qq({"amount":$amount}));
}

# Every form in which a part of the id may be written.
my @needles = ($trace, unpack('H*', $trace), map { substr(encode_base64(('x' x $_) . $trace . 'yyy', ''), 4, 12) } 0 .. 2);

# Whether the sinks have everything.
sub delivered
{
	return $node->poll_query_until('postgres', "SELECT count(*) = 2 AND sum(backlog) = 0 AND bool_and(state = 'running') FROM profile_stream.stat_sinks WHERE stream = 'crm'");
}

# The last value in the topic of updates for the customer, - for a tombstone.
sub last_update
{
	my ($last) = reverse grep { $_->[2] eq $id } $updates->messages;
	return defined $last ? $last->[3] : 'none';
}

# Says where bytes of the id are: in the dump, in a table, in statistics.
sub traces
{
	my ($dump, $err) = ('', '');
	my @found;
	IPC::Run::run([ 'pg_dump', '-d', $node->connstr('postgres') ], '>', \$dump, '2>', \$err) or die "pg_dump: $err";
	my %texts = (dump => $dump, statistics => $node->sql('SELECT * FROM pg_stats'));
	my @tables = split(/\n/, $node->sql("SELECT c.oid::regclass FROM pg_class c WHERE c.relkind = 'r' AND c.relnamespace::regnamespace::text ~ '^profile_stream'"));
	$texts{$_} = $node->sql("COPY $_ TO STDOUT") foreach @tables;
	foreach my $place (sort keys %texts)
	{
		push @found, $place if grep { index(lc $texts{$place}, lc $_) >= 0 } @needles;
	}
	return join(' ', @found);
}

# What others have.
my $others = "SELECT t.p FROM (SELECT p::text FROM profile_stream.materialized_profiles p UNION ALL SELECT c::text FROM profile_stream_internal.window_chunks c"
	. " UNION ALL SELECT e::text FROM profile_stream_internal.event_ids e) t (p) WHERE t.p NOT LIKE '%$trace%' ORDER BY 1";

# Reads the topic again.
sub replay
{
	$node->sql("SELECT profile_stream.pause_stream('crm')");
	$node->wait_stopped('crm');
	$node->sql("SELECT profile_stream.seek_stream('crm', 'earliest'); SELECT profile_stream.resume_stream('crm')");
	return $node->sql("SELECT profile_stream.wait_for_stream('crm')");
}

sub forget
{
	my ($more) = @_;
	my $counts = $node->sql("SELECT profiles, chunks > 0, event_ids, dead_letters, redacted, blocked FROM profile_stream.forget_customer('$id'$more)");
	ok(delivered(), 'it is delivered');
	$node->sql('ANALYZE');
	return $counts;
}

my $at = strftime('%Y-%m-%dT%H:%M:%SZ', gmtime(time - 86_400));    # retention leaves it alone
$broker->produce('events',
	(map { [ 0, $id, payment($_ % 2 ? $escaped : $plain, "v$_", $at, $_) ] } 1 .. 300),
	(map { my $n = $_; map { [ 1, $_, payment($_, "o$n", $at, $n) ] } qw(other-1 other-2 other-3) } 1 .. 100),
	# dead letters: one of each kind
	[ 0, '', qq({"eventId":"d1","customerId":"$escaped","eventType":"x"}) ],
	[ 0, 'account-1', payment($plain, 'd2', $at, '"much"') ],
	[ 0, '', qq({"customerId": "$plain", "eventId": "d3") ],
	[ 0, $id, 'not JSON at all' ],
	[ 0, '', "oops $id oops" ],
	[ 0, '', "\xff\x00${id}\x01" ],
	[ 0, $id, "\x00\x00\x00\x00\x07$id" ],
	[ 0, '', payment($escaped, 'd8', '2000-01-01T00:00:00Z', 1) ],
	[ 0, $id, undef ],
	# of others: one names the customer
	[ 1, 'other-1', qq({"eventId":"of $plain","customerId":"other-1","eventType":"x","timestamp":"never","payload":{"to":"$escaped","amount":4711}}) ],
	[ 1, 'other-2', payment('other-2', 'o-dead', 'never', 1) ]);
$node->create_stream('crm', $broker, 'events', redis => "'" . $redis->address . "'", redis_ttl => "'1 day'", changelog_topic => "'changelog'", late_tolerance => "'400 days'",
	dead_letter_pause_ratio => 1);
ok($node->wait_taken('crm', 611), 'the stream has taken the topic');
$node->sql("SELECT profile_stream.create_segment('all', 'true')");
$node->sql("CALL profile_stream.$_()") foreach 'refresh_scores', 'refresh_segments';
ok(delivered(), 'everything is delivered');
$node->sql('ANALYZE');
is($node->sql('SELECT kind, count(*) FROM profile_stream.dead_letters GROUP BY 1 ORDER BY 1'), "handler|1\ninvalid|3\nlate|1\nmalformed|5", 'dead letters of every kind');
is($redis->command('EXISTS', "profile:$id"), '1', 'Redis has the profile');
like(last_update(), qr/"version" : 300,.*$trace/, 'the topic of updates has it too');
is(traces(), 'dump profile_stream.materialized_profiles profile_stream.segment_changes profile_stream.segment_members profile_stream_internal.dead_letters profile_stream_internal.event_id_chunks profile_stream_internal.window_chunks statistics',
	'traces of the customer are found where there are any');
is($node->sql("SELECT jsonb_array_length(e -> 'eventIds'), jsonb_array_length(e -> 'deadLetters'), e -> 'profile' ->> 'version' FROM profile_stream.export_customer('$id') e"),
	'300|8|300', 'everything is exported');
my $before = $node->sql($others);

# forgotten
my ($rc, $out, $err) = $node->psql('postgres', "LISTEN " . $node->channel . "; BEGIN; SELECT version FROM profile_stream.materialized_profiles p WHERE p.customer_id = '$id';"
	  . "SELECT profiles, chunks > 0, event_ids, dead_letters, redacted, blocked FROM profile_stream.forget_customer('$id'); COMMIT");
like($out, qr/^300\n1\|t\|300\|8\|1\|f$/m, 'everything goes');
like($out, qr/payload "\{"customerId":"\Q$plain\E","version":0,"forgotten":true\}"/, 'it is announced');
ok(delivered(), 'it is delivered');
$node->sql('ANALYZE');
is(traces(), '', 'no byte of the customer is left');
is($redis->command('EXISTS', "profile:$id"), '0', 'nor in Redis');
is(last_update(), '-', 'the topic of updates has a tombstone');
is($redis->command('EXISTS', 'profile:other-1'), '1', 'which has the others');
is($node->sql($others), $before, 'nothing of the others changed');
is($node->sql("SELECT convert_from(value, 'UTF8')::jsonb -> 'payload', errors FROM profile_stream.dead_letters ORDER BY dead_letter_id"),
	qq({"to": "[erased]", "amount": 4711}|{"Invalid timestamp"}\n{"amount": 1}|{"Invalid timestamp"}), 'but what a dead letter said of the customer');
$node->is_balanced('crm', 'forgotten');

# read again: the customer is back, as another one would be
replay();
is($node->sql("SELECT version FROM profile_stream.materialized_profiles WHERE customer_id = '$id'"), '300', 'what is read again makes a new profile');
is($node->sql("SELECT sum(duplicates), sum(blocked) FROM profile_stream.stat_partitions"), '300|0', 'of the others all are duplicates');
isnt(traces(), '', 'there are traces again');
$node->is_balanced('crm', 'read again');

# blocked, and read again
is(forget(', block => true'), '1|t|300|8|0|t', 'blocked: everything goes');
is(traces(), '', 'blocked: no byte is left');
is($node->sql("SELECT count(*) FROM profile_stream_internal.blocked_customers b, profile_stream_internal.blocking_salt s WHERE b.customer_hash = sha256(s.salt || convert_to('$id', 'UTF8'))"),
	'1', 'blocked: but the salted hash');
replay();
is($node->sql("SELECT sum(blocked), sum(duplicates), sum(applied) FROM profile_stream.stat_partitions"), '306|600|900', 'blocked: no message of the customer is taken');
is($node->sql("SELECT blocked, state FROM profile_stream.stat_streams"), '306|running', 'blocked: the stream counts them');
is($node->sql($others), $before, 'blocked: the others have what they had');
$node->is_balanced('crm', 'blocked');
is($node->sql("SELECT encode(value, 'escape') ~ '$trace', kind FROM profile_stream.dead_letters ORDER BY dead_letter_id DESC LIMIT 2"), "t|malformed\nt|malformed",
	'blocked: messages of which nobody can tell whose they are came again');
is(forget(''), '0|f|0|2|0|t', 'blocked: until the customer is forgotten once more');
is(traces(), '', 'blocked: again no byte is left');

# a restored dump blocks too
my $file = PostgreSQL::Test::Utils::tempdir('dump') . '/dump';
$node->command_ok([ 'pg_dump', '-f', $file, '-d', $node->connstr('postgres') ], 'dumped');
$node->sql('CREATE DATABASE copy');
$node->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-f', $file, '-d', $node->connstr('copy') ], 'restored');
is($node->safe_psql('copy', "SELECT profile_stream.apply_events(ARRAY['" . payment($plain, 'r1', $at, 1) . "', '" . payment('other-1', 'r1', $at, 1) . "']::jsonb[])"),
	'{blocked,applied}', 'a restored database blocks the customer, and nobody else');

# a rebuild is just writing the customer's profile
$node->sql("SELECT profile_stream.unblock_customer('$id')");
$node->sql(<<'END');
CREATE FUNCTION public.waits() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_advisory_xact_lock_shared(42); RETURN NULL; END $$;
CREATE TRIGGER waits AFTER INSERT ON profile_stream_rebuild.materialized_profiles FOR EACH STATEMENT EXECUTE FUNCTION public.waits();
END
my $holder = $node->background_psql('postgres');
$holder->query_safe('SELECT pg_advisory_lock(42)');
$node->sql("SELECT profile_stream.rebuild('crm')");
ok($node->poll_query_until('postgres', "SELECT wait_event = 'advisory' FROM pg_stat_activity WHERE backend_type = 'profile_stream rebuild'"),
	'rebuild: it is in the middle of its transaction');
my $forgetter = $node->background_psql('postgres');
my $pid = $forgetter->query_safe('SELECT pg_backend_pid()');
$forgetter->{stdin} .= "SELECT blocked FROM profile_stream.forget_customer('$id', true);\n";
$forgetter->{run}->pump_nb;
ok($node->poll_query_until('postgres', "SELECT wait_event = 'relation' FROM pg_stat_activity WHERE pid = $pid"), 'rebuild: who forgets waits for it');
$holder->quit;
like($forgetter->query_safe('SELECT 1'), qr/t/, 'rebuild: and then forgets');
$forgetter->quit;
ok($node->wait_rebuild('ready'), 'rebuild: it gets ready');
is($node->sql("SELECT count(*), count(*) FILTER (WHERE customer_id = '$id') FROM profile_stream_rebuild.materialized_profiles"), '3|0', 'rebuild: without the customer');
cmp_ok($node->sql("SELECT blocked FROM profile_stream_rebuild.stream_offsets WHERE partition = 0"), '<=', 306, 'rebuild: whose messages it skips');
$node->sql("SELECT profile_stream.swap_rebuild('crm')");
is($node->sql('SELECT string_agg(customer_id, $$ $$ ORDER BY 1) FROM profile_stream.materialized_profiles'), 'other-1 other-2 other-3', 'rebuild: the swap brings nobody back');
$node->is_balanced('crm', 'rebuild');
forget('');
is(traces(), '', 'rebuild: no byte is left');
$node->sql("SELECT profile_stream.drop_stream('crm')");

# held, to be ordered: what comes of it is decided when it is applied
$node->create_stream('order', $broker, 'held', reorder_wait => "'1 hour'");
$broker->produce('held', [ 0, $id, payment($plain, 'h1', $at, 1) ], [ 0, $id, payment($escaped, 'h2', $at, 1) ], [ 0, 'other-4', payment('other-4', 'h3', $at, 1) ]);
ok($node->poll_query_until('postgres', "SELECT held = 3 FROM profile_stream.stat_streams WHERE stream = 'order'"), 'held: events wait');
$node->sql("SELECT profile_stream.pause_stream('order')");
ok($node->poll_query_until('postgres', "SELECT held = 0 AND blocked = 2 AND applied = 1 FROM profile_stream.stat_streams WHERE stream = 'order'"),
	'held: those of a blocked customer are skipped');
$node->sql("SELECT profile_stream.unblock_customer('$id'); SELECT profile_stream.resume_stream('order')");
$broker->produce('held', [ 0, $id, payment($plain, 'h4', $at, 1) ]);
ok($node->poll_query_until('postgres', "SELECT held = 1 FROM profile_stream.stat_streams WHERE stream = 'order'"), 'held: one more');
is($node->sql("SELECT profiles FROM profile_stream.forget_customer('$id')"), '0', 'held: the customer is forgotten');
$node->sql("SELECT profile_stream.pause_stream('order')");
ok($node->poll_query_until('postgres', "SELECT applied = 2 FROM profile_stream.stat_streams WHERE stream = 'order'"), 'held: and comes back, not being blocked');
$node->is_balanced('order', 'held');

# deferred, while a session forgets and takes long: the invalid message waits too
$node->create_stream('kept', $broker, 'kept', customer_lock_timeout => "'0'");
$forgetter = $node->background_psql('postgres');
$forgetter->query_safe('BEGIN');
is($forgetter->query_safe("SELECT profiles, blocked FROM profile_stream.forget_customer('$id', true)"), '1|t', 'kept: a customer is being forgotten');
$broker->produce('kept', [ 0, $id, payment($plain, 'k1', $at, 1) ], [ 0, '', payment($escaped, 'k2', 'never', 1) ], [ 0, $id, 'nothing' ],
	[ 0, 'other-5', payment('other-5', 'k3', $at, 1) ], [ 0, '', 'nobody' ]);
ok($node->poll_query_until('postgres', "SELECT held = 3 AND applied = 1 AND dead = 1 FROM profile_stream.stat_streams WHERE stream = 'kept'"),
	'kept: what came of it meanwhile is held, others go on');
$forgetter->query_safe('COMMIT');
$forgetter->quit;
ok($node->poll_query_until('postgres', "SELECT held = 0 AND blocked = 3 AND dead = 1 FROM profile_stream.stat_streams WHERE stream = 'kept'"), 'kept: and skipped in the end');
$node->is_balanced('kept', 'kept');
$node->sql('ANALYZE');
is(traces(), '', 'kept: no byte is left');

$node->is_clean('end');
$node->stop('fast');
done_testing();

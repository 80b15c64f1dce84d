# A Kafka that asks what each user may do: which rights a stream and its topics need, as doc/reference/servers.md says, and what
# a stream says that lacks one. What it lacks is granted while it runs, and it goes on by itself.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use IPC::Run ();
use PostgreSQL::Test::Utils;
use ProfileStream::Broker;
use ProfileStream::Node qw(events);
use Test::More;

plan skip_all => 'no Kafka: set KAFKA_HOME' unless ProfileStream::Broker::available();

my $jaas = 'org.apache.kafka.common.security.plain.PlainLoginModule required';
my $broker = ProfileStream::Broker->new(
	topics => [ [ 'events', 2 ], [ 'changes', 1 ], [ 'letters', 1 ] ],
	settings => {
		'authorizer.class.name' => 'org.apache.kafka.metadata.authorizer.StandardAuthorizer',
		'super.users' => 'User:ANONYMOUS'    # the broker itself, and this test
	},
	listeners => { PLAIN => { protocol => 'SASL_PLAINTEXT', settings => {
		'sasl.enabled.mechanisms' => 'PLAIN', 'plain.sasl.jaas.config' => "$jaas user_crm=\"sesame\";" } } });
my $node = ProfileStream::Node->start_new('main');
my $at = 0;

# Grants crm rights, as kafka-acls.sh does.
sub grant
{
	my ($out, $err);
	IPC::Run::run([ $broker->_java('org.apache.kafka.tools.AclCommand', '--bootstrap-server', $broker->bootstrap, '--add', '--allow-principal', 'User:crm', @_) ],
		'<', \undef, '>', \$out, '2>', \$err)
	  or die "kafka-acls @_: $out$err";
}

sub waits_for
{
	my ($view, $condition, $what) = @_;
	ok($node->poll_query_until('postgres', "SELECT bool_and($condition) FROM profile_stream.$view"), $what) or diag($node->sql("SELECT * FROM profile_stream.$view"));
}

$broker->produce('events', events(\$at, 10));
$node->sql("CREATE SERVER bank FOREIGN DATA WRAPPER profile_stream_kafka OPTIONS (bootstrap_servers '" . $broker->listener('PLAIN') . "',"
	  . " \"security.protocol\" 'SASL_PLAINTEXT', \"sasl.mechanism\" 'PLAIN')",
	"CREATE USER MAPPING FOR postgres SERVER bank OPTIONS (\"sasl.username\" 'crm', \"sasl.password\" 'sesame')",
	"SELECT profile_stream.create_stream('crm', server => 'bank', topic => 'events', group_id => 'crm')");

# the topic that is read
waits_for('stat_streams', "state = 'retrying' AND error ~ 'Topic authorization failed' AND hint ~ 'describe and read the topics'", 'without rights the stream says which it needs');
$node->fails_like("SELECT profile_stream.test_connection('bank', 'events')", qr/Topic authorization failed.*describe and read the topics/s, 'so does test_connection()');
grant('--operation', 'Read', '--operation', 'Describe', '--topic', 'events');
ok($node->wait_taken('crm', $at), 'with READ and DESCRIBE on the topic it reads');
waits_for('stat_streams', "state = 'running' AND error IS NULL", 'and lacks nothing');
$node->safe_psql('postgres', "SELECT * FROM profile_stream.test_connection('bank', 'events')");

# topics that are written
$node->sql("SELECT profile_stream.alter_stream('crm', changelog_topic => 'changes', dead_letter_topic => 'letters')");
$broker->produce('events', events(\$at, 10), [ 0, 'bad', 'no event' ]);
waits_for('stat_sinks', "state = 'retrying' AND hint ~ 'WRITE and DESCRIBE on'", 'without rights the sinks say which they need');
grant('--operation', 'Write', '--operation', 'Describe', '--topic', 'changes', '--topic', 'letters');
waits_for('stat_sinks', "state = 'retrying' AND error ~ 'TRANSACTIONAL_ID' AND hint ~ 'WRITE and DESCRIBE on transactional ids'", 'then those on transactional ids');
grant('--operation', 'Write', '--operation', 'Describe', '--transactional-id', 'profile_stream.', '--resource-pattern-type', 'prefixed');
waits_for('stat_sinks', "state IN ('running', 'idle') AND backlog = 0 AND delivered > 0", 'with them they deliver');
is($node->stream_state('crm'), 'running', 'the stream runs throughout');

# the group, for those who look at its lag by Kafka's own tools
sub committed
{
	my ($out, $err) = ('', '');
	IPC::Run::run([ $broker->_java('org.apache.kafka.tools.consumer.group.ConsumerGroupCommand', '--bootstrap-server', $broker->bootstrap, '--describe', '--offsets', '--group', 'crm') ],
		'<', \undef, '>', \$out, '2>', \$err);
	return $out =~ /^crm\s+events\s+0\s+\d+/m;
}
ok(!committed(), 'without READ on the group it has no offsets at Kafka');
grant('--operation', 'Read', '--group', 'crm');
$broker->produce('events', events(\$at, 10));
my $there = 0;
for (1 .. 30)
{
	last if $there = committed();
	$node->safe_psql('postgres', 'SELECT pg_sleep(1)');
}
ok($there, 'with it, it has');

$node->is_clean('end');
$node->stop('fast');
$broker->stop;
done_testing();

# The shell and SQL commands of doc/tutorial.md run against a real Kafka, and print what the document shows.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use IPC::Run;
use PostgreSQL::Test::Utils;
use ProfileStream::Broker;
use ProfileStream::Node;
use Test::More;

plan skip_all => 'needs a Kafka (KAFKA_HOME)' unless ProfileStream::Broker::available();

my $broker = ProfileStream::Broker->new();
my $node = ProfileStream::Node->start_new('main');
my $bin = PostgreSQL::Test::Utils::tempdir('bin');
my %class = ('kafka-topics.sh' => 'org.apache.kafka.tools.TopicCommand', 'kafka-console-producer.sh' => 'org.apache.kafka.tools.ConsoleProducer');

# Kafka's own scripts, as a distribution of it has them
foreach my $script (keys %class)
{
	append_to_file("$bin/$script", "#!/bin/sh\nexec java -cp '$ENV{KAFKA_HOME}/libs/*' $class{$script} \"\$@\"\n");
	chmod(0755, "$bin/$script") or die $!;
}
$ENV{PATH} = "$bin:$ENV{PATH}";
$ENV{PGHOST} = $node->host;
$ENV{PGPORT} = $node->port;
$ENV{PGDATABASE} = 'postgres';
$node->safe_psql('postgres', 'DROP EXTENSION profile_stream');    # the tutorial creates it

my %run = (sh => [ 'sh', '-e' ], sql => [ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-o', "$bin/out" ]);
my $tutorial = slurp_file("$FindBin::RealBin/../../doc/tutorial.md");
my $bootstrap = $broker->bootstrap;
my $printed = '';
my $compared = 0;

while ($tutorial =~ /^```(\w+)\n(.*?)^```$/msg)
{
	my ($kind, $block) = ($1, $2);
	my ($title) = $block =~ /(.*)/;
	my $errors = '';
	if ($kind eq 'text')
	{
		# the end of it: what the last statement printed
		$printed =~ s/ +$//gm;    # psql ends lines with blanks
		$printed =~ s/\n+\z/\n/;
		is(substr($printed, -length($block)), $block, "as the tutorial has it: $title");
		$compared++;
		next;
	}
	$block =~ s/localhost:9092/$bootstrap/g;
	my $ok = IPC::Run::run($run{$kind}, '<', \$block, '2>', \$errors);
	ok($ok, $title) or diag($errors);
	$printed = slurp_file("$bin/out") if $kind eq 'sql';
}
is($compared, 4, 'every output is compared');
$node->stop;
$broker->stop;
done_testing();

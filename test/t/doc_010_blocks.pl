# Every SQL block of README.md, CONTRIBUTING.md and the documents below doc/ runs, and the output that a document shows
# is compared.
#
# The blocks of a document run in order, each in a session of its own, in a database of the document's own. The database
# has the extension, unless the document creates it. HTML comments, which readers do not see, say what else is needed:
#
#   <!-- needs: broker -->       localhost:9092 is a mock broker with the topic customer-events; for the whole document
#   <!-- needs: kafka -->        localhost:9092 is a real Kafka
#   <!-- needs: redis -->        localhost:6379 is a Redis
#   <!-- run: … -->              SQL that runs and is not shown
#   <!-- produce: topic … -->    lines of key|value, produced to a topic
#   <!-- runs -->                the next block, in sh, runs too; it may call Kafka's own scripts
#   <!-- not run: reason -->     the next block does not run
#   <!-- error: 22023 -->        the next block fails with this SQLSTATE
#   <!-- varies -->              of the next output only the first line is compared
#
# A block in text is the output of the block before it. PS_DOC=pattern runs only documents that match; with
# PS_DOC_FILL=folder each document is written there with the output that it has now.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use File::Find;
use IPC::Run;
use PostgreSQL::Test::Utils;
use ProfileStream::Broker;
use ProfileStream::Node;
use ProfileStream::Redis;
use Test::More;

my $root = "$FindBin::RealBin/../..";
my $bin = PostgreSQL::Test::Utils::tempdir('bin');
my $node = ProfileStream::Node->start_new('main', conf => 'max_worker_processes = 24');
my ($kafka, $redis);
my ($compared, $shown) = (0, 0);

$node->safe_psql('postgres', 'CREATE DATABASE extended');
$node->safe_psql('extended', 'CREATE EXTENSION profile_stream');
$node->safe_psql('postgres', 'ALTER DATABASE extended ALLOW_CONNECTIONS false');

$ENV{PGHOST} = $node->host;
$ENV{PGPORT} = $node->port;
$ENV{PGTZ} = 'UTC';

# A real Kafka, and its own scripts as a distribution of it has them.
sub start_kafka
{
	my %class = ('kafka-topics.sh' => 'TopicCommand', 'kafka-console-producer.sh' => 'ConsoleProducer');

	foreach my $script (keys %class)
	{
		append_to_file("$bin/$script", "#!/bin/sh\nexec java -cp '$ENV{KAFKA_HOME}/libs/*' org.apache.kafka.tools.$class{$script} \"\$@\"\n");
		chmod(0755, "$bin/$script") or die $!;
	}
	$ENV{PATH} = "$bin:$ENV{PATH}";
	return ProfileStream::Broker->new;
}

# Runs a program with an input; whether it succeeded, and what it printed as errors.
sub run_program
{
	my ($input, @command) = @_;
	my $errors = '';
	my $ok = IPC::Run::run(\@command, '<', \$input, '>', \my $ignored, '2>', \$errors);
	return ($ok, $errors);
}

# Runs SQL in a session of its own; what it printed is in a file. Left out are blanks at the
# ends of lines, and what differs from run to run in a notification.
sub run_sql
{
	my ($sql) = @_;
	my ($ok, $errors) = run_program($sql, 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-v', 'VERBOSITY=verbose', '-o', "$bin/out");
	my $printed = slurp_file("$bin/out");
	$printed =~ s/[ \t]+$//gm;
	$printed =~ s/\n+\z/\n/;
	$printed =~ s/^(Asynchronous notification "\w+_)\w{16}(".* PID )\d+/$1…$2…/mg;
	return ($ok, $errors, $printed);
}

# Produces lines of key|value.
sub produce
{
	my ($broker, $topic, $lines) = @_;
	$lines =~ s/^([^|\n]*)\|/$1\t/gm;
	my ($ok, $errors) = run_program($lines, ProfileStream::Broker::tool('produce'), '-b', $broker->bootstrap, '-t', $topic, '-j');
	die "could not produce: $errors" unless $ok;
}

# The columns of a result, as its first line names them.
sub columns
{
	my ($output) = @_;
	my ($first) = $output =~ /(.*)/;
	return join(' ', split(' ', $first));
}

# As many results from the end of an output as a document shows.
sub last_results
{
	my ($printed, $shown) = @_;
	my @results = split(/^(?<=rows\)\n|.row\)\n)\n/m, $printed);
	my $number = () = $shown =~ /^\(\d+ rows?\)$/mg;
	return join("\n", @results[ -($number || 1) .. -1 ]);
}

# Runs one document.
sub run_document
{
	my ($name) = @_;
	my $content = slurp_file("$root/$name");
	my %needs = map { $_ => 1 } map { split(/[, ]+/, $_) } $content =~ /^<!-- needs: ([a-z, ]*) -->$/mg;
	my $broker;
	my ($printed, $error, $varies, $runs, $not_run, $filled, $end) = ('', '', 0, 0, '', '', 0);

	$shown += () = $content =~ /^```text$/mg;
	$broker = $kafka //= start_kafka() if $needs{kafka};
	$broker //= ProfileStream::Broker->new(mock => 1, topics => [ [ 'customer-events', 4 ] ]) if $needs{broker};
	$redis //= ProfileStream::Redis->new if $needs{redis};
	my $roles = $node->safe_psql('postgres', 'SELECT string_agg(quote_literal(rolname), \',\') FROM pg_roles');
	$node->safe_psql('postgres', 'CREATE DATABASE document TEMPLATE ' . ($content =~ /^CREATE EXTENSION profile_stream/m ? 'template0' : 'extended'));
	$ENV{PGDATABASE} = 'document';

	while ($content =~ /^(?:<!--\s*(\w+(?: run)?)(?::\s*(.*?))?\s*-->|```(\w*)\n(.*?)^```)$/msg)
	{
		my ($comment, $argument, $kind, $block, $from, $to) = ($1, $2, $3, $4, $-[4], $+[4]);
		my $title = "$name: " . ($block // '') =~ s/\n.*//sr;

		if (defined $comment)
		{
			if ($comment eq 'error') { $error = $argument; }
			elsif ($comment eq 'varies') { $varies = 1; }
			elsif ($comment eq 'runs') { $runs = 1; }
			elsif ($comment eq 'not run') { $not_run = $argument; }
			elsif ($comment eq 'produce' && $argument =~ /^(\S+)\n(.*)/s) { produce($broker, $1, "$2\n"); }
			next unless $comment eq 'run';
			($kind, $block, $title) = ('sql', $argument, "$name: what is not shown");
		}
		if ($kind eq 'text')
		{
			my $last = last_results($printed, $block);
			is($last, $block, "$title: as the document has it") unless $varies;
			is(columns($last), columns($block), "$title: columns as the document has them") if $varies;
			$compared++;
			$filled .= substr($content, $end, $from - $end) . ($varies && $block ne "?\n" ? $block : $last);
			$end = $to;
			$varies = 0;
			next;
		}
		next unless $kind eq 'sql' || ($kind eq 'sh' && $runs);
		$runs = 0;
		if ($not_run)
		{
			note("$title: does not run: $not_run");
			$not_run = '';
			next;
		}
		$block =~ s/localhost:9092/$broker->bootstrap/ge if $broker;
		$block =~ s/localhost:6379/$redis->address/ge if $needs{redis};
		my ($ok, $errors);
		if ($kind eq 'sh')
		{
			($ok, $errors) = run_program($block, 'sh', '-e');
		}
		else
		{
			($ok, $errors, $printed) = run_sql($block);
		}
		if ($error) { like($errors, qr/ERROR:  $error:/, "$title: fails"); }
		else { ok($ok, $title) or diag($errors); }
		$error = '';
	}
	if ($ENV{PS_DOC_FILL})
	{
		append_to_file("$ENV{PS_DOC_FILL}/" . $name =~ s/\//+/gr, $filled . substr($content, $end));
	}
	$ENV{PGDATABASE} = 'postgres';
	if ($content =~ /^ALTER SYSTEM/m)
	{
		$node->safe_psql('postgres', 'ALTER SYSTEM RESET ALL');
		$node->safe_psql('postgres', 'SELECT pg_reload_conf()');
	}
	$node->safe_psql('postgres', 'DROP DATABASE document WITH (FORCE)');
	$node->safe_psql('postgres', "DROP ROLE $_")
	  foreach split(/\n/, $node->safe_psql('postgres', "SELECT quote_ident(rolname) FROM pg_roles WHERE rolname NOT IN ($roles)"));
	$broker->stop if $broker && !$needs{kafka};
}

my @documents = grep { -f "$root/$_" } ('README.md', 'CONTRIBUTING.md');
find({ no_chdir => 1, wanted => sub { push @documents, $_ =~ s/^\Q$root\E\///r if /\.md$/ } }, "$root/doc");
@documents = grep { /$ENV{PS_DOC}/ } @documents if $ENV{PS_DOC};
foreach my $name (sort grep { slurp_file("$root/$_") =~ /^```sql$/m } @documents)
{
	my ($needs) = join(' ', slurp_file("$root/$name") =~ /^<!-- needs: (.*) -->$/mg);
	if ($needs =~ /kafka/ && !ProfileStream::Broker::available() || $needs =~ /redis/ && system('command -v redis-server >/dev/null') != 0)
	{
		note("$name is left out: it needs $needs");
		next;
	}
	run_document($name);
}
is($compared, $shown, 'every output that a document shows is compared');
$node->stop;
$kafka->stop if $kafka;
done_testing();

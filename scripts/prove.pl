#!/usr/bin/perl
# Runs TAP files as prove does, several at once, and prints a line for each: prove.pl [-I FOLDER]... [-j JOBS] FILE...
# Of a file that fails it prints the logs. The last line counts all tests: "N passed, N failed".
# A file that ends badly without a failed test counts as one.

use strict;
use warnings;

use Cwd qw(abs_path);
use File::Basename qw(basename);
use Getopt::Long qw(:config bundling);
use TAP::Harness;
use TAP::Parser::Aggregator;

# Files that run longest. They begin first, so that none is left over when the others are through.
my @first = qw(client_020_examples event_020_fuzz kafka_030_network apply_030_database_faults event_050_reorder
  apply_040_locked_customer kafka_060_topic_recreated kafka_040_slow_network sink_070_kills);

my ($jobs, @folders) = (1);
GetOptions('I=s' => \@folders, 'j=i' => \$jobs) or die "usage: $0 [-I FOLDER]... [-j JOBS] FILE...\n";
my $logs = $ENV{TESTLOGDIR} // ($ENV{TESTDIR} // '.') . '/tmp_check/log';
my ($passed, $failed) = (0, 0);

# Name of a test, without folder and suffix.
sub name { return basename($_[0], '.pl'); }

# Prints the last lines of a log that match, so many at most.
sub show
{
	my ($file, $pattern, $number) = @_;
	open(my $handle, '<', $file) or return;
	my @lines = grep { /$pattern/ } <$handle>;
	splice(@lines, 0, -$number) if @lines > $number;
	print '--- ', basename($file), "\n", @lines if @lines;
}

# Counts and prints what became of a file.
sub report
{
	my ($job, $parser) = @_;
	my $name = name($job->[0]);
	my $good = $parser->passed;
	my $bad = $parser->failed;
	my @reasons = $parser->parse_errors;

	push @reasons, $parser->exit ? 'exit status ' . $parser->exit : 'signal ' . ($parser->wait & 127) if $parser->wait;
	$bad = 1 if !$bad && @reasons;
	$passed += $good;
	$failed += $bad;
	printf("%-6s %-32s %4d passed%s %6.1f s%s\n", $bad ? 'FAILED' : 'ok', $name, $good, $bad ? ", $bad failed" : '',
		$parser->end_time - $parser->start_time, $parser->skip_all ? ', skipped: ' . $parser->skip_all : '');
	return unless $bad;
	print "       $_\n" foreach @reasons;
	show("$logs/regress_log_$name", qr/^(?:\[[^]]*\]\([^)]*\) )?not ok /, 40);
	show("$logs/regress_log_$name", qr/./, 40);
	show($_, qr/^(?!.*(?:failpoint|administrator command)).*(?:ERROR|FATAL|PANIC|signal|TRAP:|Sanitizer)/, 15) foreach glob("$logs/${name}_*.log");
}

# The files of a list that are to run, in the order of the list; a name that no file has is an error.
my %path = map { name($_) => $_ } @ARGV;
sub chosen
{
	-f "test/t/$_.pl" or die "$0: there is no test/t/$_.pl\n" foreach @_;
	return map { delete $path{$_} // () } @_;
}

$| = 1;
my @files = (chosen(@first), map { delete $path{ name($_) } // () } @ARGV);
my $aggregator = TAP::Parser::Aggregator->new;
$aggregator->start;
my $harness = TAP::Harness->new({ lib => [ map { abs_path($_) // $_ } @folders ], jobs => $jobs, verbosity => -3 });
$harness->callback(after_test => \&report);
$harness->aggregate_tests($aggregator, @files) if @files;
print "$passed passed, $failed failed\n";
exit($failed != 0);

# Options that run code, read files or send secrets elsewhere, in every place where an operator may write an option. They
# are refused before librdkafka sees them. Secrets are shown nowhere.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use IPC::Run ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use ProfileStream::Node;
use Test::More;

my $dir = PostgreSQL::Test::Utils::tempdir('options');
my $touched = "$dir/touched";
my $library = "$dir/touch.so";
my $nowhere = '127.0.0.1:' . PostgreSQL::Test::Cluster::get_free_port();
my $secret = 'open-sesame-4711';

# A library that shows when it was loaded.
sub build_library
{
	append_to_file("$dir/touch.c", <<"END");
#include <stdio.h>
__attribute__((constructor)) static void touch(void) { FILE *f = fopen("$touched", "w"); if (f) fclose(f); }
END
	return IPC::Run::run([ 'cc', '-shared', '-fPIC', '-o', $library, "$dir/touch.c" ]);
}

my $command = "x; touch $touched #";

# refused whoever asks
my %never = (
	'plugin.library.paths' => $library,
	'Plugin.Library.Paths' => $library,
	'plugin.library.paths ' => $library,
	'ssl.engine.location' => $library,
	'ssl.engine.id' => 'dynamic',
	'ssl.providers' => $library,
	'sasl.kerberos.kinit.cmd' => $command,
	'sasl.kerberos.principal' => $command,
	'sasl.kerberos.keytab' => $touched,
	'sasl.kerberos.min.time.before.relogin' => 1,
	'sasl.oauthbearer.config' => 'principal=x',
	'sasl.oauthbearer.method' => 'oidc',
	'sasl.oauthbearer.client.id' => 'x',
	'sasl.oauthbearer.client.secret' => $secret,
	'sasl.oauthbearer.token.endpoint.url' => "file://$touched",
	'sasl.oauthbearer.assertion.private.key.file' => $touched,
	'sasl.oauthbearer.assertion.jwt.template.file' => $touched,
	'enable.sasl.oauthbearer.unsecure.jwt' => 'true',
	'https.ca.location' => $touched,
	'internal.termination.signal' => 15,
	'offset.store.path' => $touched,
	'offset.store.method' => 'file',
	'test.mock.num.bootstrap_servers' => 1,
	'ut_handle_ApiVersionResponse' => 1,
	'enable.auto.commit' => 'true',
	'enable.auto.offset.store' => 'true',
	'auto.offset.reset' => 'latest',
	'auto.commit.interval.ms' => 1,
	'isolation.level' => 'read_uncommitted',
	'enable.partition.eof' => 'false',
	'group.id' => 'x',
	'group.instance.id' => 'x',
	'log_level' => 7,
	'log.queue' => 'false',
	'log.thread.name' => 'true',
	'log.connection.close' => 'true',
	'statistics.interval.ms' => 1,
	'queued.max.messages.kbytes' => 2097151,
	'metadata.broker.list' => $nowhere,
	'builtin.features' => 'x',
	'opaque' => 'x',
	(map { $_ => 'x' } qw(interceptors log_cb error_cb stats_cb rebalance_cb consume_cb socket_cb open_cb connect_cb default_topic_conf)),
	'' => 'x');

# refused to an operator
my %superuser = (
	'enable.ssl.certificate.verification' => 'false',
	'ssl.endpoint.identification.algorithm' => 'none',
	'debug' => 'security,protocol',
	(map { $_ => $touched } qw(ssl.ca.location ssl.crl.location ssl.certificate.location ssl.key.location ssl.keystore.location)));

# by which the database server itself logs in: for superusers, on servers alone
my %kerberos = ('sasl.mechanism' => 'GSSAPI', 'sasl.mechanisms' => 'GSSAPI', 'sasl.kerberos.service.name' => 'kafka');

# what belongs elsewhere: secrets into a user mapping, addresses to the server
my %secrets = map { $_ => $secret } qw(sasl.username sasl.password ssl.key.pem ssl.key.password ssl.keystore.password);
my %transport = ('security.protocol' => 'plaintext', 'sasl.mechanism' => 'PLAIN', 'sasl.mechanisms' => 'PLAIN', 'ssl.ca.pem' => 'x');
my %addresses = ('bootstrap.servers' => $nowhere);

my $node = ProfileStream::Node->start_new('main', conf => "log_statement = none\nlog_min_error_statement = error\nlog_error_verbosity = verbose\n");
$node->safe_psql('postgres', <<"END");
CREATE ROLE crm LOGIN IN ROLE profile_stream_operator;
CREATE ROLE analyst LOGIN IN ROLE profile_stream_reader;
CREATE SERVER bank FOREIGN DATA WRAPPER profile_stream_kafka OPTIONS (bootstrap_servers '$nowhere');
CREATE SERVER vault FOREIGN DATA WRAPPER profile_stream_kafka OPTIONS (bootstrap_servers '$nowhere');
GRANT USAGE ON FOREIGN SERVER bank TO crm;
GRANT USAGE ON FOREIGN SERVER vault TO crm;
GRANT USAGE ON FOREIGN DATA WRAPPER profile_stream_kafka TO crm;
SET ROLE crm;
CREATE SERVER mine FOREIGN DATA WRAPPER profile_stream_kafka OPTIONS (bootstrap_servers '$nowhere');
CREATE USER MAPPING FOR crm SERVER mine OPTIONS ("sasl.username" 'u');
RESET ROLE;
-- what a statement raises: state, message, hint
CREATE FUNCTION public.attempt(statement text) RETURNS text LANGUAGE plpgsql AS \$\$
DECLARE hint text;
BEGIN
	EXECUTE statement;
	RETURN 'accepted';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS hint = PG_EXCEPTION_HINT;
	RETURN SQLSTATE || ' ' || SQLERRM || ' ' || coalesce(hint, '');
END \$\$;
END

sub quote
{
	my ($text) = @_;
	return "'" . $text =~ s/'/''/gr . "'";
}

# Every place for an option, as a statement of a name and a quoted value.
my %places = (
	'create_stream()' => q{SELECT profile_stream.create_stream('s', server => 'bank', options => jsonb_build_object('NAME', VALUE))},
	'CREATE SERVER' => qq{CREATE SERVER other FOREIGN DATA WRAPPER profile_stream_kafka OPTIONS (bootstrap_servers '$nowhere', "NAME" VALUE)},
	'ALTER SERVER' => q{ALTER SERVER mine OPTIONS (ADD "NAME" VALUE)},
	'CREATE USER MAPPING' => q{CREATE USER MAPPING FOR CURRENT_USER SERVER bank OPTIONS ("NAME" VALUE)},
	'ALTER USER MAPPING' => q{ALTER USER MAPPING FOR crm SERVER mine OPTIONS (ADD "NAME" VALUE)});

# Tries all options in all places as a role: each must be refused by the allow-list.
sub refused
{
	my ($role, $options, @where) = @_;
	my (@tried, @wrong);
	my $statements = '';

	foreach my $place (@where)
	{
		foreach my $name (sort keys %$options)
		{
			# an empty quoted name is a syntax error in DDL
			next if $name eq '' && $place ne 'create_stream()';
			push @tried, [ $place, $name ];
			my $statement = $places{$place} =~ s/NAME/$name/r =~ s/VALUE/quote($options->{$name})/er;
			$statements .= 'SELECT public.attempt(' . quote($statement) . ");\n";
		}
	}
	my @answers = split /\n/, $node->safe_psql('postgres', "SET ROLE $role;\n$statements");
	foreach my $index (0 .. $#tried)
	{
		my ($place, $name) = @{ $tried[$index] };
		my $answer = $answers[$index] // 'no answer';
		push @wrong, "$place, $name: $answer" if $answer !~ /^HV00D option "\Q$name\E" is not allowed here \S/ || $answer =~ /\Q$secret/;
	}
	is(join("\n", @wrong), '', scalar(@tried) . " tries as $role are refused by name: " . join(', ', @where));
}

SKIP:
{
	skip 'no C compiler', 1 unless build_library();
	# the trap works: whoever loads the library touches the file
	$node->psql('postgres', "LOAD '$library'");
	ok(-e $touched, 'the library shows when it is loaded');
	unlink($touched);
}
my @everywhere = ('create_stream()', 'CREATE SERVER', 'ALTER SERVER', 'CREATE USER MAPPING', 'ALTER USER MAPPING');
refused('crm', \%never, @everywhere);
refused('postgres', \%never, @everywhere);
refused('crm', \%superuser, @everywhere);
refused('crm', \%kerberos, @everywhere);
refused('postgres', \%kerberos, 'create_stream()', 'CREATE USER MAPPING', 'ALTER USER MAPPING');
refused($_, \%secrets, 'create_stream()', 'CREATE SERVER', 'ALTER SERVER') foreach qw(crm postgres);
refused($_, \%addresses, 'create_stream()', 'CREATE USER MAPPING', 'ALTER USER MAPPING') foreach qw(crm postgres);
refused($_, \%transport, 'create_stream()') foreach qw(crm postgres);
ok(!-e $touched, 'no code was run and no file written');
is($node->safe_psql('postgres', 'SELECT (SELECT count(*) FROM profile_stream.streams), (SELECT count(*) FROM pg_foreign_server), (SELECT count(*) FROM pg_user_mapping)'),
	'0|3|1', 'nothing came to be');

# a superuser's options do not pass to whom the server is given
$node->safe_psql('postgres', qq(ALTER SERVER vault OPTIONS (ADD "ssl.ca.location" '$touched'); ALTER SERVER vault OWNER TO crm));
$node->fails_like("SET ROLE crm; SELECT profile_stream.create_stream('s', server => 'vault')",
	qr/option "ssl\.ca\.location" is not allowed here/, 'a server given away with an option that reads files');
$node->fails_like("SET ROLE crm; SELECT profile_stream.create_stream('s', bootstrap_servers => '$nowhere')",
	qr/permission denied to name brokers/, 'brokers of one\'s own');

# a secret where it belongs, of a stream that cannot connect
$node->safe_psql('postgres', <<"END");
ALTER SERVER bank OPTIONS (ADD "security.protocol" 'sasl_plaintext', ADD "sasl.mechanism" 'PLAIN');
CREATE USER MAPPING FOR crm SERVER bank OPTIONS ("sasl.username" 'teller', "sasl.password" '$secret');
SET ROLE crm;
SELECT profile_stream.create_stream('s', server => 'bank', topic => 'events');
END
ok($node->poll_query_until('postgres', "SELECT state = 'retrying' AND error IS NOT NULL FROM profile_stream.stat_streams"),
	'a stream with a secret says that it cannot connect');
foreach my $statement (
	qq{CREATE SERVER other FOREIGN DATA WRAPPER profile_stream_kafka OPTIONS (bootstrap_servers 'x', "sasl.password" '$secret')},
	qq(SELECT profile_stream.create_stream('t', server => 'bank', options => '{"sasl.password": "$secret"}')),
	qq(CREATE USER MAPPING FOR postgres SERVER bank OPTIONS ("sasl.pasword" '$secret')),
	qq(ALTER USER MAPPING FOR crm SERVER bank OPTIONS (ADD "ssl.key.passwort" '$secret')))
{
	my ($rc, $out, $err) = $node->psql('postgres', $statement, extra_params => [ '-v', 'VERBOSITY=verbose' ]);
	isnt($rc, 0, 'a misplaced or misspelt secret is refused');
	unlike("$out$err", qr/\Q$secret/, 'and not repeated');
}
foreach my $role (qw(analyst crm))
{
	my $relations = $node->safe_psql('postgres',
		"SELECT string_agg(format('SELECT t::text FROM %s t', oid::regclass), ' UNION ALL ') FROM pg_class"
		  . " WHERE relnamespace::regnamespace::text ~ '^profile_stream' AND relkind IN ('r', 'v') AND has_table_privilege('$role', oid, 'SELECT') AND has_schema_privilege('$role', relnamespace, 'USAGE')");
	my $shown = $node->safe_psql('postgres', "SET ROLE $role; $relations");
	like($shown, qr/\bbank\b/, "$role: sees the stream");
	unlike($shown, qr/\Q$secret/, "$role: and no secret in any relation of the extension");
}
is($node->safe_psql('postgres', 'SET ROLE analyst; SELECT count(*) FROM pg_user_mappings WHERE umoptions IS NOT NULL'), '0',
	'nor in the mappings of others');
unlike($node->safe_psql('postgres', 'SELECT string_agg(a::text, \' \') FROM pg_stat_activity a'), qr/\Q$secret/, 'nor in pg_stat_activity');
my $log = slurp_file($node->logfile);
like($log, qr/option "sasl\.password" is not allowed here/, 'the log has the errors');
unlike($log, qr/\Q$secret/, 'and no secret');
ok(!-e $touched, 'no file was written at the end');

$node->is_clean('end');
$node->stop('fast');
done_testing();

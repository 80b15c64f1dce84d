# doc/reference/ has a page for every public object and setting, and what it takes from the catalog is as the catalog has it.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use IPC::Run;
use ProfileStream::Node;
use Test::More;

my $node = ProfileStream::Node->start_new('main');

$ENV{PGHOST} = $node->host;
$ENV{PGPORT} = $node->port;
$ENV{PGDATABASE} = 'postgres';

# What the check says is wrong; the exit status agrees.
sub problems
{
	my $problems = '';
	my $content = IPC::Run::run([ 'python3', "$FindBin::RealBin/../../scripts/reference.py", '--check' ], '2>', \$problems);
	is($content ? '' : 'wrong', $problems eq '' ? '' : 'wrong', 'the exit status says whether something is wrong');
	return $problems;
}

is(problems(), '', 'the reference is complete and up to date');

# what it finds, when objects change
$node->safe_psql('postgres', <<'END');
CREATE FUNCTION profile_stream.extra() RETURNS int LANGUAGE sql RETURN 1;
ALTER EXTENSION profile_stream ADD FUNCTION profile_stream.extra();
COMMENT ON FUNCTION profile_stream.start_streams() IS 'Another sentence';
COMMENT ON COLUMN profile_stream.stat_code.hint IS NULL;
ALTER EXTENSION profile_stream DROP FUNCTION profile_stream.try_lock_customer(text);
DROP FUNCTION profile_stream.try_lock_customer(text);
ALTER EXTENSION profile_stream DROP FUNCTION profile_stream.lock_customer(text);
DROP FUNCTION profile_stream.lock_customer(text);
CREATE FUNCTION profile_stream.lock_customer(customer_id text, more int DEFAULT 1) RETURNS void LANGUAGE sql RETURN NULL;
COMMENT ON FUNCTION profile_stream.lock_customer(text, int) IS 'A sentence';
ALTER EXTENSION profile_stream ADD FUNCTION profile_stream.lock_customer(text, int);
ALTER EXTENSION profile_stream DROP FUNCTION profile_stream.set_score_settings;
END
my $problems = problems();
like($problems, qr/^extra has no COMMENT$/m, 'a function without a COMMENT is found');
like($problems, qr/^extra has no page$/m, 'a function without a page is found');
like($problems, qr/^start_streams\.md is out of date/m, 'another COMMENT is found');
like($problems, qr/^stat_code\.md: column `hint` has no COMMENT$/m, 'a column without a COMMENT is found');
like($problems, qr/^try_lock_customer\.md: stands for no public object$/m, 'a page of no object is found');
like($problems, qr/^lock_customer\.md: `more` is not explained$/m, 'an argument without a row is found');
like($problems, qr/^doc.reference.set_score_settings\.md: no function has an argument `margin`$/m, 'an argument of no function is found in a document');
$node->stop;
done_testing();

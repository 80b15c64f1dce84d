# ALTER EXTENSION UPDATE where Citus has distributed the profiles: a script of the next version, made up here, which adds a
# column as CONTRIBUTING says, changes the tables and their shards on all nodes; one that does not fails, and changes nothing.
# And nothing drops the extension while its profiles are distributed.
# It runs where PS_CITUS names the pg_config of a PostgreSQL with Citus.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Utils;
use ProfileStream::Citus qw(start_node address);
use ProfileStream::Node qw(event);
use Test::More;

plan skip_all => 'NOT RUN: PS_CITUS names no PostgreSQL with Citus' unless $ENV{PS_CITUS};

my ($coordinator, $one, $two) = map { start_node($_) } 'coordinator', 'one', 'two';
my @nodes = ($coordinator, $one, $two);
$coordinator->sql('CREATE EXTENSION profile_stream', "SELECT citus_set_coordinator_host(@{[address($coordinator)]})",
	map({ "SELECT citus_add_node(@{[address($_)]})" } $one, $two), 'SELECT profile_stream.distribute(8)');
$one->sql("SELECT profile_stream.apply_event('" . event('e1', $_) . "')") foreach map { "c$_" } 1 .. 4;

# what nothing may drop
foreach my $drop ('DROP EXTENSION profile_stream', 'DROP EXTENSION profile_stream CASCADE', 'DROP EXTENSION citus CASCADE', 'DROP EXTENSION plpgsql CASCADE',
	'DROP SCHEMA profile_stream CASCADE', 'DROP OWNED BY CURRENT_USER CASCADE')
{
	$_->fails_like($drop, qr/cannot be dropped while its profiles are distributed|operation is not allowed on this node/, "$drop on " . $_->name) foreach @nodes;
}

# Writes a script that upgrades to a version that does not exist.
my $folder = $coordinator->config_data('--sharedir') . '/extension';
my $version = $coordinator->sql("SELECT extversion FROM pg_extension WHERE extname = 'profile_stream'");
my @scripts;

sub write_script
{
	my ($to, $text) = @_;
	push @scripts, "$folder/profile_stream--$version--$to.sql";
	append_to_file($scripts[-1], $text);
}
END { unlink @scripts; }

my $versions = "SELECT extversion FROM pg_extension WHERE extname = 'profile_stream'";
my $columns = "SELECT count(*) FROM pg_attribute a WHERE a.attname = 'made_up' AND a.attrelid::regclass::text ~ '^profile_stream\\.materialized_profiles(_[0-9]+)?\$'";
my $here = "SELECT count(*) FROM pg_dist_shard JOIN pg_dist_placement USING (shardid) JOIN pg_dist_local_group USING (groupid) WHERE logicalrelid = 'profile_stream.materialized_profiles'::regclass";

write_script('9.0.0', "ALTER TABLE profile_stream.materialized_profiles ADD COLUMN made_up text;\n");
my ($result, $stdout, $stderr) = $coordinator->psql('postgres', "ALTER EXTENSION profile_stream UPDATE TO '9.0.0'");
isnt($result, 0, 'a script that alters the table alone fails');
note($stderr);
foreach my $node (@nodes)
{
	is($node->sql($versions), $version, 'and leaves the version on ' . $node->name);
	is($node->sql($columns), 0, 'and the tables');
}

write_script('9.1.0', <<'SCRIPT');
SET LOCAL citus.enable_ddl_propagation = off;
SET LOCAL citus.enable_manual_changes_to_shards = on;
ALTER TABLE profile_stream.materialized_profiles ADD COLUMN made_up text;
DO $$
DECLARE
	shard text;
BEGIN
	IF profile_stream_internal.is_distributed() THEN
		FOR shard IN EXECUTE 'SELECT pg_catalog.format(''profile_stream.materialized_profiles_%s'', s.shardid) FROM pg_catalog.pg_dist_shard s
				JOIN pg_catalog.pg_dist_placement p ON p.shardid OPERATOR(pg_catalog.=) s.shardid JOIN pg_catalog.pg_dist_local_group g ON g.groupid OPERATOR(pg_catalog.=) p.groupid
				WHERE s.logicalrelid OPERATOR(pg_catalog.=) ''profile_stream.materialized_profiles''::pg_catalog.regclass' LOOP
			EXECUTE pg_catalog.format('ALTER TABLE %s ADD COLUMN made_up text', shard);
		END LOOP;
	END IF;
END
$$;
SCRIPT
$coordinator->sql("ALTER EXTENSION profile_stream UPDATE TO '9.1.0'");
foreach my $node (@nodes)
{
	is($node->sql($versions), '9.1.0', 'the new version on ' . $node->name);
	is($node->sql($columns), 1 + $node->sql($here), 'the table and each shard that is there has the column');
	is($node->sql('SELECT count(*), count(made_up) FROM profile_stream.materialized_profiles'), '4|0', 'which is read');
}
$coordinator->sql("UPDATE profile_stream.materialized_profiles SET made_up = 'x' WHERE customer_id = 'c1'");
is($_->sql('SELECT customer_id FROM profile_stream.materialized_profiles WHERE made_up IS NOT NULL'), 'c1', 'and written, on ' . $_->name) foreach @nodes;

# a shard that moves takes the column along
my ($shard, $from, $to) = split(/\|/, $coordinator->sql("SELECT shardid, nodeport, (SELECT nodeport FROM pg_dist_node o WHERE o.nodeport <> n.nodeport AND o.groupid <> 0) FROM pg_dist_placement JOIN pg_dist_node n USING (groupid)
	WHERE shardid = get_shard_id_for_distribution_column('profile_stream.materialized_profiles', 'c1')"));
$coordinator->sql("SELECT citus_move_shard_placement($shard, '127.0.0.1', $from, '127.0.0.1', $to, 'block_writes')");
is($coordinator->sql("SELECT made_up FROM profile_stream.materialized_profiles WHERE customer_id = 'c1'"), 'x', 'a shard moves with the column');

done_testing();


=pod

=head1 NAME

ProfileStream::Shards - two servers that share profiles as nodes of Citus do, for tests without Citus

=head1 DESCRIPTION

Each of the servers gets a catalogue as Citus has it, and tables of its shards: the even ones
are on the first server, the odd ones on the second. A shard moves under the lock that
Citus takes. Rows of other tables than those of sharded_tables() are local to each server.

=cut

package ProfileStream::Shards;

use strict;
use warnings;

use Exporter 'import';
use ProfileStream::Node;

use constant SHARDS => 4;

our @EXPORT_OK = qw(make_shards has_shards give_shard connection run_call);

# What Citus has on every node, and its move of a shard: the server that has it calls take_shard() of the other one.
my $catalogue = <<'END';
SET allow_system_table_mods = on;
CREATE EXTENSION dblink;
CREATE EXTENSION postgres_fdw;
CREATE TABLE pg_catalog.pg_dist_shard (logicalrelid regclass NOT NULL, shardid bigint NOT NULL, shardminvalue text, shardmaxvalue text);
CREATE TABLE pg_catalog.pg_dist_placement (shardid bigint NOT NULL, groupid int NOT NULL);
CREATE TABLE pg_catalog.pg_dist_local_group (groupid int NOT NULL);
CREATE TABLE pg_catalog.pg_dist_node (groupid int NOT NULL, nodename text NOT NULL, nodeport int NOT NULL, nodeid int GENERATED ALWAYS AS (groupid) STORED);
CREATE TABLE pg_catalog.pg_dist_partition (logicalrelid regclass NOT NULL, partmethod "char" NOT NULL);
CREATE FUNCTION pg_catalog.lock_shard_metadata(mode int, shards bigint[]) RETURNS void LANGUAGE plpgsql AS 'BEGIN PERFORM pg_advisory_xact_lock_shared(s) FROM unnest(shards) s; END';
INSERT INTO pg_dist_shard SELECT t, 100 * n + s, (-2147483648 + s * 1073741824)::text, (-2147483648 + (s + 1) * 1073741824 - 1)::text
	FROM unnest(profile_stream_internal.sharded_tables()) WITH ORDINALITY AS u(t, n), generate_series(0::bigint, 3) s;
INSERT INTO pg_dist_placement SELECT shardid, 1 + shardid % 2 FROM pg_dist_shard;
CREATE FUNCTION public.invalidate() RETURNS void LANGUAGE sql AS 'UPDATE pg_class SET relname = relname WHERE oid = ANY (profile_stream_internal.sharded_tables())';
CREATE FUNCTION public.tables_of(shard bigint) RETURNS TABLE (schema text, name text, shardid bigint) LANGUAGE sql AS $$
	SELECT n.nspname, c.relname, s.shardid FROM pg_dist_shard s JOIN pg_class c ON c.oid = s.logicalrelid JOIN pg_namespace n ON n.oid = c.relnamespace WHERE s.shardid % 100 = shard
$$;
CREATE FUNCTION public.make_shard(shard bigint) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	t record;
BEGIN
	FOR t IN SELECT * FROM public.tables_of(shard) LOOP
		EXECUTE format('CREATE TABLE %I.%I (LIKE %I.%I INCLUDING ALL EXCLUDING IDENTITY)', t.schema, t.name || '_' || t.shardid, t.schema, t.name);
		EXECUTE format('ALTER INDEX %I.%I RENAME TO %I', t.schema, t.name || '_' || t.shardid || '_pkey', t.name || '_pkey_' || t.shardid);
	END LOOP;
END $$;
CREATE FUNCTION public.take_shard(shard bigint) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	t record;
BEGIN
	PERFORM public.make_shard(shard);
	FOR t IN SELECT * FROM public.tables_of(shard) LOOP
		EXECUTE 'CREATE SCHEMA incoming';
		EXECUTE format('IMPORT FOREIGN SCHEMA %I LIMIT TO (%I) FROM SERVER other INTO incoming', t.schema, t.name || '_' || t.shardid);
		EXECUTE format('INSERT INTO %I.%I SELECT * FROM incoming.%2$I', t.schema, t.name || '_' || t.shardid);
		DROP SCHEMA incoming CASCADE;
		UPDATE pg_dist_placement p SET groupid = (SELECT groupid FROM pg_dist_local_group) WHERE p.shardid = t.shardid;
	END LOOP;
	PERFORM public.invalidate();
END $$;
CREATE FUNCTION public.give_shard(shard bigint, receiver text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	t record;
BEGIN
	PERFORM pg_advisory_xact_lock(s.shardid) FROM public.tables_of(shard) s;
	PERFORM dblink_exec(receiver, format('DO $do$ BEGIN PERFORM public.take_shard(%s); END $do$', shard));
	FOR t IN SELECT * FROM public.tables_of(shard) LOOP
		UPDATE pg_dist_placement p SET groupid = 3 - (SELECT groupid FROM pg_dist_local_group) WHERE p.shardid = t.shardid;
		EXECUTE format('DROP TABLE %I.%I', t.schema, t.name || '_' || t.shardid);
	END LOOP;
	PERFORM public.invalidate();
END $$;
CREATE FUNCTION pg_catalog.run_command_on_all_nodes(command text, OUT nodeid int, OUT success boolean, OUT result text) RETURNS SETOF record LANGUAGE plpgsql AS $$
BEGIN
	FOR nodeid, result IN SELECT n.nodeid, format('host=%s port=%s dbname=%s user=%s', n.nodename, n.nodeport, current_database(), current_user) FROM pg_dist_node n LOOP
		BEGIN
			success := true;
			SELECT r.result INTO result FROM public.dblink(result, command) r(result text);
		EXCEPTION WHEN OTHERS THEN
			success := false;
			result := SQLERRM;
		END;
		RETURN NEXT;
	END LOOP;
END $$;
CREATE FUNCTION public.rows_of(table_name text, columns text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
	t record;
BEGIN
	FOR t IN SELECT x.* FROM generate_series(0, 3) s, public.tables_of(s) x JOIN pg_dist_placement p USING (shardid) JOIN pg_dist_local_group USING (groupid) WHERE x.name = table_name LOOP
		RETURN QUERY EXECUTE format('SELECT ROW(%s)::text FROM %I.%I', columns, t.schema, t.name || '_' || t.shardid);
	END LOOP;
END $$;
END

# How the servers reach each other.
sub connection
{
	my ($node) = @_;
	return 'host=' . $node->host . ' port=' . $node->port . ' dbname=postgres user=postgres';
}

# Distributes the profiles of two servers, which have none yet.
sub make_shards
{
	my @nodes = @_;
	foreach my $number (1, 2)
	{
		my ($node, $other) = @nodes[ $number - 1, 2 - $number ];
		my @here = grep { 1 + $_ % 2 == $number } 0 .. SHARDS - 1;

		$node->sql($catalogue);
		$node->sql('SET allow_system_table_mods = on', "INSERT INTO pg_dist_local_group VALUES ($number)",
			(map { "INSERT INTO pg_dist_node VALUES ($_, '@{[$nodes[$_ - 1]->host]}', @{[$nodes[$_ - 1]->port]})" } 1, 2), map { "SELECT public.make_shard($_)" } @here);
		$node->sql("CREATE SERVER other FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '@{[$other->host]}', port '@{[$other->port]}', dbname 'postgres')",
			"CREATE USER MAPPING FOR postgres SERVER other OPTIONS (user 'postgres')");
		# each shard says of which hashes it is, under the first number that belongs to it
		$node->sql("INSERT INTO profile_stream_internal.shard_offsets_@{[400 + $_]} SELECT g.i::text, 0, s.shardminvalue || ':' || s.shardmaxvalue, -1, 0 FROM generate_series(1, 1000) g(i), pg_dist_shard s
			WHERE s.shardid = 400 + $_ AND (hashtext(i::text COLLATE \"C\")::bigint + 2147483648) / 1073741824 = $_ ORDER BY g.i LIMIT 1") foreach @here;
		$node->sql('SET allow_system_table_mods = on', "INSERT INTO pg_dist_partition SELECT t, 'h' FROM unnest(profile_stream_internal.sharded_tables()) t", 'SELECT public.invalidate()');
	}
	return;
}

sub has_shards { return $_[0]->sql('SELECT count(*) > 0 FROM pg_dist_placement JOIN pg_dist_local_group USING (groupid)') eq 't'; }

# Moves shards to the other server.
sub give_shard
{
	my ($owner, $receiver, @shards) = @_;
	$owner->sql('SET allow_system_table_mods = on', map { "SELECT public.give_shard($_, '@{[connection($receiver)]}')" } @shards);
	return;
}

# Runs a call on one server as the coordinator sends it, with a value from an object or the default of each argument.
sub run_call
{
	my ($node, $call_no, $json, $ids, $function) = @_;
	$function //= 'create_stream';
	my @arguments = split(/\n/, $node->sql("SELECT format('COALESCE((''%s''::jsonb ->> %L), (%s)::text)', '$json', p.proargnames[i], COALESCE(pg_get_function_arg_default(p.oid, i), 'NULL'))"
			  . " FROM pg_proc p, generate_series(1, p.pronargs) i WHERE p.oid = 'profile_stream.$function'::regproc ORDER BY i"));
	$node->sql("SELECT profile_stream_internal.run_coordinator_call($call_no, current_user, '$function', ARRAY[" . join(', ', @arguments) . "], '$ids')");
	return;
}

1;

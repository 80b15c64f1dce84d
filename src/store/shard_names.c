/*
 * shard_names.c
 *	  Citus calls a shard of a table, and an index of it, by their name and the number of
 *	  the shard. Statements and relations of the extension are those of its own tables;
 *	  here they become those of the shard in use.
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "lib/stringinfo.h"
#include "settings.h"
#include "store/shard_names.h"
#include "store/shards.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"

#define PROFILES_VIEW "profiles"

Oid
ps_shard_names_relation(int shard, Oid relid, const char *name)
{
	PsSharded	table = shard == PS_NO_SHARD ? PS_SHARDED_TABLES : ps_sharded_find(name, strlen(name));
	char		of_shard[NAMEDATALEN];

	if (table == PS_SHARDED_TABLES)
		return relid;
	snprintf(of_shard, sizeof(of_shard), "%s_" INT64_FORMAT, name, ps_shards_id(shard, table));
	return get_relname_relid(of_shard, get_rel_namespace(relid));
}

const char *
ps_shard_names_index(const char *table, const char *index)
{
	int			shard = ps_shards_used();
	PsSharded	which = shard == PS_NO_SHARD ? PS_SHARDED_TABLES : ps_sharded_find(table, strlen(table));

	return which == PS_SHARDED_TABLES ? index : psprintf("%s_" INT64_FORMAT, index, ps_shards_id(shard, which));
}

/* The next table in a statement that is distributed; *end is behind its name. NULL: there is none. */
static const char *
next_name(const char *sql, PsSharded *table, const char **end)
{
	static const char *const prefixes[] = {PS_SCHEMA ".", PS_INTERNAL_SCHEMA "."};

	for (const char *found = strstr(sql, PS_SCHEMA); found != NULL; found = strstr(found + 1, PS_SCHEMA))
		for (int i = 0; i < lengthof(prefixes); i++)
		{
			const char *name = found + strlen(prefixes[i]);
			int			len;

			if (strncmp(found, prefixes[i], strlen(prefixes[i])) != 0)
				continue;
			len = strspn(name, "abcdefghijklmnopqrstuvwxyz_0123456789");
			*table = ps_sharded_find(name, len);
			if (*table == PS_SHARDED_TABLES || strncmp(ps_sharded_tables[*table].schema, found, strlen(prefixes[i]) - 1) != 0)
				continue;
			*end = name + len;
			return found;
		}
	return NULL;
}

bool
ps_shard_names_find(const char *sql, PsSharded *table)
{
	const char *end;

	return next_name(sql, table, &end) != NULL;
}

bool
ps_shard_names_missing(const char *sql, PsSharded *table)
{
	return ps_distributed() && ps_shards_used() == PS_NO_SHARD && ps_shard_names_find(sql, table);
}

const char *
ps_shard_names_sql(const char *sql)
{
	StringInfoData result;
	const char *end;
	PsSharded	table;
	int			shard = ps_shards_used();

	if (shard == PS_NO_SHARD)
		return sql;
	initStringInfo(&result);
	while (next_name(sql, &table, &end) != NULL)
	{
		appendBinaryStringInfo(&result, sql, end - sql);
		appendStringInfo(&result, "_" INT64_FORMAT, ps_shards_id(shard, table));
		sql = end;
	}
	appendStringInfoString(&result, sql);
	return result.data;
}

const char *
ps_shard_names_profiles(void)
{
	char	   *definition;

	if (!ps_distributed())
		return PS_SCHEMA "." PROFILES_VIEW;
	definition = TextDatumGetCString(DirectFunctionCall1(pg_get_viewdef, ObjectIdGetDatum(get_relname_relid(PROFILES_VIEW, get_namespace_oid(PS_SCHEMA, false)))));
	*strrchr(definition, ';') = '\0';
	return psprintf("(%s) AS " PROFILES_VIEW, ps_shard_names_sql(definition));
}

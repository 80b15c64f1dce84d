/*
 * rebuild_schema.c
 *	  Knows on which copy of the tables this process works: one variable, set once.
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "settings.h"
#include "store/rebuild_schema.h"

/* the tables that the rebuild schema has too */
static const char *const tables[] = {
	"stream_offsets", "stream_status", "stream_gaps",
	"materialized_profiles", "window_chunks", "event_id_chunks", "dead_letters", "profile_history"
};

/* the tables that users read; all others are in profile_stream_internal */
static const char *const public_tables[] = {
	"materialized_profiles", "streams", "stream_log", "segment_members", "segment_changes"
};

static bool used = false;
static bool shared = false;

void
ps_rebuild_schema_use(void)
{
	used = true;
}

bool
ps_rebuild_schema_used(void)
{
	return used;
}

void
ps_rebuild_schema_share(bool now)
{
	shared = now;
}

bool
ps_rebuild_schema_shared(void)
{
	return shared;
}

/* Whether the rebuild schema has the table with a name of this length. */
static bool
has_copy(const char *name, int len)
{
	for (int i = 0; i < lengthof(tables); i++)
		if (strlen(tables[i]) == len && memcmp(tables[i], name, len) == 0)
			return true;
	return false;
}

const char *
ps_schema_of(bool in_rebuild, const char *table)
{
	if (in_rebuild && has_copy(table, strlen(table)))
		return PS_REBUILD_SCHEMA;
	for (int i = 0; i < lengthof(public_tables); i++)
		if (strcmp(public_tables[i], table) == 0)
			return PS_SCHEMA;
	return PS_INTERNAL_SCHEMA;
}

const char *
ps_rebuild_schema_sql(const char *sql)
{
	static const char *const prefixes[] = {PS_SCHEMA ".", PS_INTERNAL_SCHEMA "."};
	StringInfoData result;
	const char *found;

	if (!used)
		return sql;
	initStringInfo(&result);
	while ((found = strstr(sql, PS_SCHEMA)) != NULL)
	{
		const char *name = found + strlen(PS_SCHEMA);

		for (int i = 0; i < lengthof(prefixes); i++)
			if (strncmp(found, prefixes[i], strlen(prefixes[i])) == 0)
				name = found + strlen(prefixes[i]);
		appendBinaryStringInfo(&result, sql, found - sql);
		if (name[-1] == '.' && has_copy(name, strspn(name, "abcdefghijklmnopqrstuvwxyz_")))
			appendStringInfoString(&result, PS_REBUILD_SCHEMA ".");
		else
			appendBinaryStringInfo(&result, found, name - found);
		sql = name;
	}
	appendStringInfoString(&result, sql);
	return result.data;
}

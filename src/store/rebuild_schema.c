/*
 * rebuild_schema.c
 *	  Which copy of the tables this process works on: one variable, set once.
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "settings.h"
#include "store/rebuild_schema.h"

/* the tables of which there is a second one; all others there is but once */
static const char *const tables[] = {
	"stream_offsets", "stream_status", "stream_gaps",
	"materialized_profiles", "window_chunks", "event_ids", "dead_letters"
};

static bool used = false;

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

/* Whether there is a shadow of the table whose name begins the text and has this length. */
static bool
has_shadow(const char *name, int len)
{
	for (int i = 0; i < lengthof(tables); i++)
		if (strlen(tables[i]) == len && memcmp(tables[i], name, len) == 0)
			return true;
	return false;
}

const char *
ps_rebuild_schema_of(const char *table)
{
	return used && has_shadow(table, strlen(table)) ? PS_SHADOW_SCHEMA : PS_SCHEMA;
}

const char *
ps_rebuild_schema_sql(const char *sql)
{
	static const char prefix[] = PS_SCHEMA ".";
	StringInfoData result;
	const char *found;

	if (!used)
		return sql;
	initStringInfo(&result);
	while ((found = strstr(sql, prefix)) != NULL)
	{
		const char *name = found + strlen(prefix);
		int			len = strspn(name, "abcdefghijklmnopqrstuvwxyz_");

		appendBinaryStringInfo(&result, sql, found - sql);
		appendStringInfo(&result, "%s.%.*s", has_shadow(name, len) ? PS_SHADOW_SCHEMA : PS_SCHEMA, len, name);
		sql = name + len;
	}
	appendStringInfoString(&result, sql);
	return result.data;
}

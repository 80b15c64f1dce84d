/*
 * watch.c
 *	  Invalidation callbacks of workers and relays.
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "commands/extension.h"
#include "ingest/watch.h"
#include "profile_stream.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

bool		ps_watch_stream = true;
bool		ps_watch_options = false;

static Oid	status_relid = InvalidOid;

/* Somebody paused, resumed or dropped a stream, or dropped the table. */
static void
relation_changed(Datum arg, Oid relid)
{
	if (relid == status_relid || relid == InvalidOid)
		ps_watch_stream = true;
}

/* Somebody altered a server or a user mapping. */
static void
connection_changed(Datum arg, int cacheid, uint32 hashvalue)
{
	ps_watch_options = true;
}

void
ps_watch_begin(void)
{
	CacheRegisterRelcacheCallback(relation_changed, (Datum) 0);
	CacheRegisterSyscacheCallback(FOREIGNSERVEROID, connection_changed, (Datum) 0);
	CacheRegisterSyscacheCallback(USERMAPPINGOID, connection_changed, (Datum) 0);
}

bool
ps_watch_extension(void)
{
	if (!OidIsValid(get_extension_oid("profile_stream", true)))
		return false;
	status_relid = get_relname_relid("stream_status", get_namespace_oid(PS_SCHEMA, false));
	return true;
}

/*
 * invalidation.c
 *	  Invalidation callbacks of workers and relays.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "process/invalidation.h"
#include "settings.h"
#include "store/owner.h"
#include "utils/inval.h"
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

/* Somebody altered a server, a user mapping, a role, or who is its member. */
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
	CacheRegisterSyscacheCallback(AUTHOID, connection_changed, (Datum) 0);
	CacheRegisterSyscacheCallback(AUTHMEMMEMROLE, connection_changed, (Datum) 0);
}

bool
ps_watch_extension(void)
{
	if (!OidIsValid(ps_own_schema(true)))
		return false;
	status_relid = ps_own_table(PS_SCHEMA, "stream_status");
	return true;
}

bool
ps_watch_owner(const PsStream *stream)
{
	return stream->owner == GetSessionUserId() && SearchSysCacheExists1(AUTHOID, ObjectIdGetDatum(stream->owner));
}

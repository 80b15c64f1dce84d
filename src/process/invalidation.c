/*
 * invalidation.c
 *	  The invalidation callbacks of workers and relays. They only set flags.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "process/invalidation.h"
#include "settings.h"
#include "store/owner.h"
#include "store/relation_changes.h"
#include "utils/inval.h"
#include "utils/syscache.h"

bool		ps_stream_invalidated = true;
bool		ps_options_invalidated = false;

static Oid	status_relid = InvalidOid;

/* A stream was paused, resumed, altered or dropped. */
static void
invalidation_relation_changed(Oid relid)
{
	if (relid == status_relid || relid == InvalidOid)
		ps_stream_invalidated = true;
}

/* A server, a user mapping, a role or a membership was altered. */
static void
connection_changed(Datum arg, int cacheid, uint32 hashvalue)
{
	ps_options_invalidated = true;
}

void
ps_invalidation_begin(void)
{
	ps_on_relation_change(invalidation_relation_changed);
	CacheRegisterSyscacheCallback(FOREIGNSERVEROID, connection_changed, (Datum) 0);
	CacheRegisterSyscacheCallback(USERMAPPINGOID, connection_changed, (Datum) 0);
	CacheRegisterSyscacheCallback(AUTHOID, connection_changed, (Datum) 0);
	CacheRegisterSyscacheCallback(AUTHMEMMEMROLE, connection_changed, (Datum) 0);
}

bool
ps_invalidation_has_extension(void)
{
	if (!OidIsValid(ps_own_schema(true)))
		return false;
	status_relid = ps_own_table(false, "stream_status");
	return true;
}

bool
ps_invalidation_owns(const PsStream *stream)
{
	return stream->owner == GetSessionUserId() && SearchSysCacheExists1(AUTHOID, ObjectIdGetDatum(stream->owner));
}

/*
 * role.c
 *	  Whose process a background worker is: that of a role, which it does not log
 *	  in as. A role that has no LOGIN, no CONNECT or no connection left keeps its
 *	  streams from running as little as it keeps its functions from being called.
 */
#include "postgres.h"

#include "access/xact.h"
#include "executor/spi.h"
#include "ingest/worker.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/proc.h"
#include "store/owner.h"
#include "utils/backend_status.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

/* Whose process this is, for pg_stat_activity and for who may end it. */
static void
show_owner(Oid owner)
{
	volatile	PgBackendStatus *entry = MyBEEntry;

	PGSTAT_BEGIN_WRITE_ACTIVITY(entry);
	entry->st_userid = owner;
	PGSTAT_END_WRITE_ACTIVITY(entry);
	MyProc->roleId = owner;
}

bool
ps_worker_become(Oid owner)
{
	bool		exists;

	StartTransactionCommand();
	exists = SearchSysCacheExists1(AUTHOID, ObjectIdGetDatum(owner));
	if (exists)
		SetSessionAuthorization(owner, superuser_arg(owner));
	CommitTransactionCommand();
	if (exists)
		show_owner(owner);
	return exists;
}

void
ps_worker_end_if_ownerless(Oid owner, int stream_id)
{
	PsStream   *stream;
	PsIdentity	identity;
	bool		exists;

	StartTransactionCommand();
	exists = SearchSysCacheExists1(AUTHOID, ObjectIdGetDatum(owner));
	if (!exists && OidIsValid(ps_own_schema(true)))
	{
		SPI_connect();
		PushActiveSnapshot(GetTransactionSnapshot());
		identity = ps_become_owner();	/* who is gone has no right to read */
		stream = ps_stream_find(NULL, stream_id);
		ps_become_caller(identity);
		if (stream != NULL && !SearchSysCacheExists1(AUTHOID, ObjectIdGetDatum(stream->owner)))
			ps_workers_complain_of_owner(stream);
		PopActiveSnapshot();
		SPI_finish();
	}
	CommitTransactionCommand();
	if (!exists)
		proc_exit(0);			/* for good: its OID does not come back */
}

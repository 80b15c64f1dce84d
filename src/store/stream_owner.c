/*
 * stream_owner.c
 *	  The owner of a stream: a role that may not exist any more, or may have lost the
 *	  right to run streams.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "store/outbox.h"
#include "store/owner.h"
#include "store/plan.h"
#include "store/stream_catalog.h"
#include "utils/acl.h"
#include "utils/syscache.h"

static PsPlan processes_plan = {
	"SELECT s.owner, s.workers + (SELECT pg_catalog.count(*) FROM profile_stream_internal.stream_sinks k WHERE k.stream_id = s.stream_id)::int4"
	" FROM profile_stream.streams s JOIN profile_stream_internal.stream_status t ON t.stream_id = s.stream_id"
	" WHERE t.enabled AND t.database = $1 AND s.stream_id <> $2",
	2, {OIDOID, INT4OID}
};

int
ps_stream_processes(const PsStream *stream)
{
	int			n = stream->workers;

	for (int kind = 0; kind < PS_SINK_KINDS; kind++)
		n += stream->sinks[kind] != NULL;
	return n;
}

int
ps_streams_count_processes(int without)
{
	Datum		args[2] = {ObjectIdGetDatum(MyDatabaseId), Int32GetDatum(without)};
	uint64		n = ps_plan_run(&processes_plan, args, NULL, SPI_OK_SELECT);
	int			processes = 0;

	for (uint64 i = 0; i < n; i++)
	{
		bool		isnull;

		if (!superuser_arg(DatumGetObjectId(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull))))
			processes += DatumGetInt32(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 2, &isnull));
	}
	SPI_freetuptable(SPI_tuptable);
	return processes;
}

char *
ps_stream_no_owner(const PsStream *stream)
{
	return psprintf("the role that owned stream \"%s\" is gone", stream->name);
}

Oid
ps_stream_owner(const PsStream *stream)
{
	if (!SearchSysCacheExists1(AUTHOID, ObjectIdGetDatum(stream->owner)))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("%s", ps_stream_no_owner(stream)),
				 errhint(PS_NEW_OWNER_HINT)));
	return stream->owner;
}

void
ps_stream_show_no_owner(const PsStream *stream)
{
	PsSavedUser saved = ps_switch_to_owner();

	ps_stream_set_state(stream->stream_id, PS_STATE_NO_OWNER, ps_stream_no_owner(stream), PS_NEW_OWNER_HINT, -1);
	for (int kind = 0; kind < PS_SINK_KINDS; kind++)
		if (stream->sinks[kind] != NULL)
			ps_outbox_set_state(stream->stream_id, kind, PS_STATE_NO_OWNER, ps_stream_no_owner(stream), PS_NEW_OWNER_HINT, -1);
	ps_restore_user(saved);
}

/*
 * poison_messages.c
 *	  The SQL of stream_culprits, see culprits.h.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "store/owner.h"
#include "store/plan.h"
#include "store/poison_messages.h"
#include "utils/builtins.h"

static PsPlan add_plan = {
	"INSERT INTO profile_stream.stream_culprits (stream_id, partition, epoch, kafka_offset, error, ended_at)"
	" VALUES ($1, $2, $3, $4, $5, pg_catalog.now()) ON CONFLICT DO NOTHING",
	5, {INT4OID, INT4OID, INT4OID, INT8OID, TEXTOID}
};

static PsPlan forget_plan = {
	"DELETE FROM profile_stream.stream_culprits c USING profile_stream.stream_offsets o WHERE c.stream_id = $1"
	" AND o.stream_id = c.stream_id AND o.partition = c.partition AND (c.epoch <> o.epoch OR c.kafka_offset < o.next_offset)",
	1, {INT4OID}
};

static PsPlan load_plan = {
	"SELECT c.partition, c.epoch, c.kafka_offset, c.error FROM profile_stream.stream_culprits c WHERE c.stream_id = $1",
	1, {INT4OID}
};

void
ps_culprit_add(int stream_id, const PsCulprit *culprit)
{
	Datum		args[5] = {
		Int32GetDatum(stream_id), Int32GetDatum(culprit->partition), Int32GetDatum(culprit->epoch),
		Int64GetDatum(culprit->offset), CStringGetTextDatum(culprit->error)
	};
	PsIdentity	identity = ps_become_owner();

	(void) ps_plan_run(&add_plan, args, NULL, SPI_OK_INSERT);
	ps_become_caller(identity);
}

List *
ps_culprits_load(int stream_id)
{
	Datum		args[1] = {Int32GetDatum(stream_id)};
	PsIdentity	identity = ps_become_owner();
	List	   *culprits = NIL;
	uint64		n;

	(void) ps_plan_run(&forget_plan, args, NULL, SPI_OK_DELETE);
	n = ps_plan_run(&load_plan, args, NULL, SPI_OK_SELECT);
	ps_become_caller(identity);
	for (uint64 i = 0; i < n; i++)
	{
		PsCulprit  *culprit = palloc(sizeof(PsCulprit));
		bool		isnull;

		culprit->partition = DatumGetInt32(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull));
		culprit->epoch = DatumGetInt32(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 2, &isnull));
		culprit->offset = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 3, &isnull));
		culprit->error = ps_plan_text(i, 4);
		culprits = lappend(culprits, culprit);
	}
	SPI_freetuptable(SPI_tuptable);
	return culprits;
}

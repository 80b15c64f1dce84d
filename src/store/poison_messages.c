/*
 * poison_messages.c
 *	  The SQL of the table poison_messages.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "store/owner.h"
#include "store/plan.h"
#include "store/poison_messages.h"
#include "utils/builtins.h"

static PsPlan add_plan = {
	"INSERT INTO profile_stream_internal.poison_messages (stream_id, topic_no, partition, epoch, kafka_offset, error, ended_at)"
	" VALUES ($1, $2, $3, $4, $5, $6, pg_catalog.now()) ON CONFLICT DO NOTHING",
	6, {INT4OID, INT4OID, INT4OID, INT4OID, INT8OID, TEXTOID}
};

static PsPlan forget_plan = {
	"DELETE FROM profile_stream_internal.poison_messages c USING profile_stream_internal.stream_offsets o WHERE c.stream_id = $1"
	" AND o.stream_id = c.stream_id AND o.topic_no = c.topic_no AND o.partition = c.partition AND (c.epoch <> o.epoch OR c.kafka_offset < o.next_offset)",
	1, {INT4OID}
};

static PsPlan load_plan = {
	"SELECT c.topic_no, c.partition, c.epoch, c.kafka_offset, c.error FROM profile_stream_internal.poison_messages c WHERE c.stream_id = $1",
	1, {INT4OID}
};

void
ps_poison_message_add(int stream_id, const PsPoisonMessage *poison_message)
{
	Datum		args[6] = {
		Int32GetDatum(stream_id), Int32GetDatum(poison_message->topic_no), Int32GetDatum(poison_message->partition), Int32GetDatum(poison_message->epoch),
		Int64GetDatum(poison_message->offset), CStringGetTextDatum(poison_message->error)
	};
	PsSavedUser saved = ps_switch_to_owner();

	(void) ps_plan_run(&add_plan, args, NULL, SPI_OK_INSERT);
	ps_restore_user(saved);
}

List *
ps_poison_messages_load(int stream_id)
{
	Datum		args[1] = {Int32GetDatum(stream_id)};
	PsSavedUser saved = ps_switch_to_owner();
	List	   *poison_messages = NIL;
	uint64		n;

	(void) ps_plan_run(&forget_plan, args, NULL, SPI_OK_DELETE);
	n = ps_plan_run(&load_plan, args, NULL, SPI_OK_SELECT);
	ps_restore_user(saved);
	for (uint64 i = 0; i < n; i++)
	{
		PsPoisonMessage *poison_message = palloc(sizeof(PsPoisonMessage));
		bool		isnull;

		poison_message->topic_no = DatumGetInt32(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull));
		poison_message->partition = DatumGetInt32(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 2, &isnull));
		poison_message->epoch = DatumGetInt32(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 3, &isnull));
		poison_message->offset = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 4, &isnull));
		poison_message->error = ps_plan_text(i, 5);
		poison_messages = lappend(poison_messages, poison_message);
	}
	SPI_freetuptable(SPI_tuptable);
	return poison_messages;
}

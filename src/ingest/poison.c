/*
 * poison.c
 *	  Poison messages: a user's function that catches its own cancellation cannot be
 *	  stopped, so its worker ends. While it exits, the process notes the message. The
 *	  next process makes it a dead letter, so that the message costs one restart only.
 */
#include "postgres.h"

#include "access/xact.h"
#include "apply/apply.h"
#include "apply/user_decoder.h"
#include "ingest/poison.h"
#include "storage/ipc.h"
#include "store/function.h"
#include "store/locks.h"
#include "store/poison_messages.h"
#include "store/user_code.h"
#include "store/xact.h"
#include "utils/memutils.h"

/* At the exit: notes the message whose function runs. It comes before PostgreSQL aborts the transaction. */
static void
note_poison_message(int code, Datum arg)
{
	PsWorker   *worker = (PsWorker *) DatumGetPointer(arg);
	const PsApplyItem *item = ps_apply_calling();
	const PsMessage *message = item != NULL ? &item->message : ps_decoder_calling();
	PsPoisonMessage poison_message;

	if (!ps_user_code_gave_up() || message == NULL || message->partition < 0)
		return;
	MemoryContextSwitchTo(worker->context);
	poison_message = (PsPoisonMessage)
	{
		message->topic_no, message->partition, message->epoch, message->offset,
			psprintf("%s took longer than profile_stream.handler_timeout, and did not end when it was cancelled", ps_function_under_way())
	};
	(void) ps_user_code_end();
	ereport(LOG, (errmsg("worker %d of stream \"%s\" ends: %s", worker->number, worker->stream->name, poison_message.error)));
	AbortOutOfAnyTransaction();
	ps_transaction_start();
	ps_lock_tables();
	ps_spi_begin();
	ps_poison_message_add(worker->stream->stream_id, &poison_message);
	(void) ps_stream_count_attempts(worker->stream->stream_id, -1); /* this attempt ended for a known reason */
	ps_commit();
}

void
ps_poison_begin(PsWorker *worker)
{
	ps_transaction_start();
	ps_lock_tables();
	ps_spi_begin();
	MemoryContextSwitchTo(worker->context);
	worker->poison_messages = ps_poison_messages_load(worker->stream->stream_id);
	ps_commit();
	before_shmem_exit(note_poison_message, PointerGetDatum(worker));
}

const char *
ps_poison_reason(const PsWorker *worker, const PsMessage *message)
{
	ListCell   *cell;

	foreach(cell, worker->poison_messages)
	{
		const PsPoisonMessage *poison_message = lfirst(cell);

		if (message->topic_no == poison_message->topic_no && message->partition == poison_message->partition &&
			message->epoch == poison_message->epoch && message->offset == poison_message->offset)
			return poison_message->error;
	}
	return NULL;
}

void
ps_poison_reject(const PsWorker *worker, PsApplyItem *items, int n)
{
	if (worker->poison_messages == NIL)
		return;
	for (int i = 0; i < n; i++)
	{
		const char *reason = items[i].event != NULL ? ps_poison_reason(worker, &items[i].message) : NULL;

		if (reason != NULL)
			ps_item_reject(&items[i], ps_reject_make("handler", psprintf("Processing error: %s", reason)),
						   PS_REJECTED_BY_HANDLER);
	}
}

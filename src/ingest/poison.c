/*
 * poison.c
 *	  A function that catches its cancellation again and again ends its worker, which
 *	  nothing can catch. So that this costs one restart, the process notes whose
 *	  message it was while it exits; the next one makes that a dead letter.
 */
#include "postgres.h"

#include "access/xact.h"
#include "apply/apply.h"
#include "executor/spi.h"
#include "ingest/worker.h"
#include "storage/ipc.h"
#include "store/function.h"
#include "store/locks.h"
#include "store/poison_messages.h"
#include "store/user_code.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

/* At the exit, before the transaction under way is ended, as session's temporary tables are removed. */
static void
note_culprit(int code, Datum arg)
{
	PsWorker   *worker = (PsWorker *) DatumGetPointer(arg);
	const PsApplyItem *item = ps_apply_calling();
	PsPoisonMessage poison_message;

	if (!ps_user_code_gave_up() || item == NULL || item->message.partition < 0)
		return;
	MemoryContextSwitchTo(worker->context);
	poison_message = (PsPoisonMessage)
	{
		item->message.partition, item->message.epoch, item->message.offset,
			psprintf("%s took longer than profile_stream.handler_timeout, and did not end when it was cancelled", ps_function_under_way())
	};
	(void) ps_user_code_end();
	ereport(LOG, (errmsg("worker %d of stream \"%s\" ends: %s", worker->number, worker->stream->name, poison_message.error)));
	AbortOutOfAnyTransaction();
	StartTransactionCommand();
	ps_lock_tables();
	SPI_connect();
	PushActiveSnapshot(GetTransactionSnapshot());
	ps_poison_message_add(worker->stream->stream_id, &poison_message);
	(void) ps_stream_count_attempts(worker->stream->stream_id, -1); /* it came to that */
	PopActiveSnapshot();
	SPI_finish();
	CommitTransactionCommand();
}

void
ps_poison_begin(PsWorker *worker)
{
	StartTransactionCommand();
	ps_lock_tables();
	SPI_connect();
	PushActiveSnapshot(GetTransactionSnapshot());
	MemoryContextSwitchTo(worker->context);
	worker->poison_messages = ps_poison_messages_load(worker->stream->stream_id);
	PopActiveSnapshot();
	SPI_finish();
	CommitTransactionCommand();
	before_shmem_exit(note_culprit, PointerGetDatum(worker));
}

void
ps_poison_refuse(const PsWorker *worker, PsApplyItem *items, int n)
{
	ListCell   *cell;

	foreach(cell, worker->poison_messages)
	{
		const PsPoisonMessage *poison_message = lfirst(cell);

		for (int i = 0; i < n; i++)
		{
			const PsMessage *message = &items[i].message;

			if (items[i].event != NULL && message->partition == poison_message->partition &&
				message->epoch == poison_message->epoch && message->offset == poison_message->offset)
				items[i].refusal = ps_reject_make("handler", psprintf("Processing error: %s", poison_message->error));
		}
	}
}

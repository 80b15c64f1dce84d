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
	const PsEntry *entry = ps_apply_calling();
	PsCulprit	culprit;

	if (!ps_contain_gave_up() || entry == NULL || entry->message.partition < 0)
		return;
	MemoryContextSwitchTo(worker->context);
	culprit = (PsCulprit)
	{
		entry->message.partition, entry->message.epoch, entry->message.offset,
			psprintf("%s took longer than profile_stream.handler_timeout, and did not end when it was cancelled", ps_function_under_way())
	};
	(void) ps_contain_end();
	ereport(LOG, (errmsg("worker %d of stream \"%s\" ends: %s", worker->number, worker->stream->name, culprit.error)));
	AbortOutOfAnyTransaction();
	StartTransactionCommand();
	ps_lock_tables();
	SPI_connect();
	PushActiveSnapshot(GetTransactionSnapshot());
	ps_culprit_add(worker->stream->stream_id, &culprit);
	(void) ps_stream_count_attempts(worker->stream->stream_id, -1); /* it came to that */
	PopActiveSnapshot();
	SPI_finish();
	CommitTransactionCommand();
}

void
ps_culprits_begin(PsWorker *worker)
{
	StartTransactionCommand();
	ps_lock_tables();
	SPI_connect();
	PushActiveSnapshot(GetTransactionSnapshot());
	MemoryContextSwitchTo(worker->context);
	worker->culprits = ps_culprits_load(worker->stream->stream_id);
	PopActiveSnapshot();
	SPI_finish();
	CommitTransactionCommand();
	before_shmem_exit(note_culprit, PointerGetDatum(worker));
}

void
ps_culprits_refuse(const PsWorker *worker, PsEntry *entries, int n)
{
	ListCell   *cell;

	foreach(cell, worker->culprits)
	{
		const PsCulprit *culprit = lfirst(cell);

		for (int i = 0; i < n; i++)
		{
			const PsMessage *message = &entries[i].message;

			if (entries[i].event != NULL && message->partition == culprit->partition &&
				message->epoch == culprit->epoch && message->offset == culprit->offset)
				entries[i].refusal = ps_reject_make("handler", psprintf("Processing error: %s", culprit->error));
		}
	}
}

/* Only these classes speak of data: a full disk or a lost right must not reach the dead letters. */
bool
ps_culprit_is_data(int sqlerrcode)
{
	switch (ERRCODE_TO_CATEGORY(sqlerrcode))
	{
		case MAKE_SQLSTATE('2', '2', '0', '0', '0'):	/* data exception */
		case MAKE_SQLSTATE('2', '3', '0', '0', '0'):	/* integrity constraint violation */
		case MAKE_SQLSTATE('2', '7', '0', '0', '0'):	/* triggered data change violation */
		case MAKE_SQLSTATE('3', '8', '0', '0', '0'):	/* external routine exception */
		case MAKE_SQLSTATE('4', '4', '0', '0', '0'):	/* with check option violation */
		case MAKE_SQLSTATE('5', '4', '0', '0', '0'):	/* program limit exceeded */
		case MAKE_SQLSTATE('P', '0', '0', '0', '0'):	/* raised by PL/pgSQL */
			return true;
		default:
			return false;
	}
}

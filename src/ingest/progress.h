/*
 * progress.h
 *	  How far partitions are read and finished.
 */
#ifndef PS_PROGRESS_H
#define PS_PROGRESS_H

#include "ingest/partition.h"
#include "store/offsets.h"

/* The items that a decoder made of one message: the message is finished when all of them are. */
typedef struct PsParts
{
	int			unfinished;
	int			references;		/* items that are not committed */
	const PsApplyItem *finished_by; /* in this transaction */
} PsParts;

/* What one transaction changes of the progress. */
typedef struct PsProgress
{
	const PsApplyItem *items;	/* NULL: it has not begun */
	int			n;
	PsOffsetMove *moves;		/* how the rows of stream_offsets move */
	int			nmoves;
} PsProgress;

extern void ps_progress_init(PsPartition *partition, const PsStoredOffset *stored, MemoryContext context);

/* Forgets the partitions, and all that waits of them. */
extern void ps_progress_forget(PsWorker *worker);

/* Notes that a message was read; whether it is to be applied. */
extern bool ps_progress_read(PsWorker *worker, const PsMessage *message);

/* Notes that a partition has no message up to an offset. */
extern void ps_progress_end(PsWorker *worker, const PsPosition *end);

/*
 * A transaction's progress. It begins once apply has set the outcomes: the items that
 * are not deferred count as finished, and the moves are known. Later it commits, or is
 * rolled back; a rollback before the begin does nothing. store_read: also move
 * partitions of which messages were read but none is finished.
 */
extern void ps_progress_begin(PsWorker *worker, PsProgress *progress, const PsApplyItem *items, int n, bool store_read);
extern void ps_progress_commit(PsWorker *worker, const PsProgress *progress);
extern void ps_progress_rollback(PsWorker *worker, PsProgress *progress);

/* When to store what was read and waits, PS_MOMENT_NEVER when it is stored. */
extern PsMoment ps_progress_due(const PsWorker *worker);

/* Makes what n items of a message share. */
extern PsParts *ps_progress_share(PsWorker *worker, int n);

#endif							/* PS_PROGRESS_H */

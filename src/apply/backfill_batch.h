/*
 * backfill_batch.h
 *	  Applies events that do not come from Kafka: those of backfills and seeds. The
 *	  procedure backfill() and the worker of a rebuild call it.
 */
#ifndef PS_BACKFILL_BATCH_H
#define PS_BACKFILL_BATCH_H

#include "apply/apply.h"
#include "store/backfill_rows.h"
#include "store/stream.h"

#define PS_BACKFILL_HEADER "profile_stream.backfill"	/* of a dead letter, with the name of its backfill */
#define PS_MAX_BACKFILL_BATCH 100000

/* A batch of rows that were read and are not all applied. */
typedef struct PsBackfillBatch
{
	PsApplyItem *items;
	PsBackfillPosition *positions;	/* of each item's row */
	int			n;
	int			done;			/* so many are applied */
} PsBackfillBatch;

/* Makes the item of an event in JSON, NULL: of a row without one. */
extern void ps_backfill_item(PsApplyItem *item, char *event);

/* Reads at most max rows into the current context; false: there are no more. */
extern bool ps_backfill_read_batch(PsBackfillRows *rows, const char *name, int max, PsBackfillBatch *batch);

/* How events of a backfill are applied with the settings of a stream. In a rebuild they notify nobody, and make no dead letters. */
extern PsApplySettings ps_backfill_settings(const PsStream *stream, bool in_rebuild);

/*
 * Applies the next items of a batch in the caller's transaction, as many as the lock
 * table allows. It counts them, and sets the position of the last one.
 */
extern void ps_backfill_apply(PsBackfillBatch *batch, PsApplySettings *settings, PsBackfillCounts *counts, PsBackfillPosition *position);

/* The same for items that a seed or another call brings: all, and without a position. */
extern void ps_backfill_apply_items(PsApplyItem *items, int n, PsApplySettings *settings);

#endif							/* PS_BACKFILL_BATCH_H */

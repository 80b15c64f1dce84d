/*
 * backfill_rows.h
 *	  The rows of a backfill's query, in the order of timestamp, event id and customer.
 *	  They are read in one transaction, and kept on disk for the next ones.
 */
#ifndef PS_BACKFILL_ROWS_H
#define PS_BACKFILL_ROWS_H

#include "store/backfill_catalog.h"

typedef struct PsBackfillRows PsBackfillRows;

/*
 * Runs the query with the rights of the backfill's owner, restricted as all code of
 * users is: it begins behind a position and ends with another one, where upto->event_id
 * is not NULL. Needs an active snapshot. An error must abort the (sub)transaction in
 * which it is called, which undoes the change of roles. The result lives in the current
 * context until it is closed.
 */
extern PsBackfillRows *ps_backfill_rows_read(const PsBackfill *backfill, const PsBackfillPosition *from, const PsBackfillPosition *upto);
extern void ps_backfill_rows_close(PsBackfillRows *rows);

/*
 * The next event as JSON text in the current context, NULL where a row has none; false:
 * there is no more row. position becomes that of the row. What it points to has the
 * current context as well.
 */
extern bool ps_backfill_rows_next(PsBackfillRows *rows, char **event, PsBackfillPosition *position);

/* Raises unless the text is one SELECT without side effects of its own, in parentheses too. */
extern void ps_backfill_check_query(const char *query);

#endif							/* PS_BACKFILL_ROWS_H */

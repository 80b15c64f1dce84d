/*
 * dead_letter_repair.h
 *	  Choosing dead letters, keeping them from others, and what becomes of them: as
 *	  the owner of the tables, but only letters that the caller's row security shows.
 */
#ifndef PS_DEAD_LETTER_REPAIR_H
#define PS_DEAD_LETTER_REPAIR_H

#include "postgres.h"

#define PS_LETTER_FILTERS 7		/* the arguments of dead_letter_matches(), without the letter */

/* Locks the oldest letters that match and nobody else has; returns their numbers as int8[] in the current context. */
extern Datum ps_dead_letters_lock(const Datum *filters, const bool *nulls, Datum after_id, bool from_first, int64 max_letters);

/* Removes letters that were applied, and notes the errors of the others: results are those of retry_events(). */
extern void ps_dead_letters_settle(Datum ids, Datum results);

/* Removes letters that match; returns how many. */
extern int64 ps_dead_letters_discard(const Datum *filters, const bool *nulls);

#endif							/* PS_DEAD_LETTER_REPAIR_H */

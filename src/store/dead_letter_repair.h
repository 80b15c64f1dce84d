/*
 * dead_letter_repair.h
 *	  Selects, locks and removes dead letters for their repair: with the rights of the
 *	  tables' owner, but only those that the caller's row security shows.
 */
#ifndef PS_DEAD_LETTER_REPAIR_H
#define PS_DEAD_LETTER_REPAIR_H

#include "postgres.h"

#define PS_LETTER_FILTERS 8		/* arguments of dead_letter_matches() but the dead letter */

/* Whether there is a stream, or a topic, of that name, or a dead letter that came from it. */
extern bool ps_dead_letters_know(bool a_topic, Datum name);

/* Locks the oldest matching dead letters that nobody else has locked; returns their ids as int8[] in the current context. */
extern Datum ps_dead_letters_lock(const Datum *filters, const bool *nulls, Datum after_id, bool from_first, int64 max_letters);

/* Removes dead letters that were applied, and stores the new errors of the others. Results are those of retry_events(). */
extern void ps_dead_letters_settle(Datum ids, Datum results);

/* Removes matching dead letters; returns how many. */
extern int64 ps_dead_letters_discard(const Datum *filters, const bool *nulls);

#endif							/* PS_DEAD_LETTER_REPAIR_H */

/*
 * history_partitions.h
 *	  The partitions of profile_history: ranges of days in UTC, by the time of the change.
 *	  They are made when a row needs them, and dropped as a whole when they are older
 *	  than the history is kept.
 */
#ifndef PS_HISTORY_PARTITIONS_H
#define PS_HISTORY_PARTITIONS_H

#include "postgres.h"

#include "datatype/timestamp.h"

/* Makes the partitions in which these times have none. Needs SPI. */
extern void ps_history_cover(const TimestampTz *times, int n);

/*
 * Drops the partitions of times before a moment. Unless it shall wait, it leaves those
 * that somebody uses at this moment, and returns false when there are any.
 */
extern bool ps_history_drop(TimestampTz before, bool wait);

/* Drops the partitions that are older than the history is kept; false: somebody uses one of them, and it is still there. */
extern bool ps_history_prune(TimestampTz now);

#endif							/* PS_HISTORY_PARTITIONS_H */

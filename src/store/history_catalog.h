/*
 * history_catalog.h
 *	  What is tracked: the tables history_columns and history_settings.
 */
#ifndef PS_HISTORY_CATALOG_H
#define PS_HISTORY_CATALOG_H

#include "core/history.h"

/*
 * What is tracked at this moment; nothing where nothing is. Valid until the transaction
 * ends. Whoever applies, or refreshes scores, asks for it after it has locked the tables.
 */
extern const PsTracked *ps_history_tracked(void);

/* Locks out everybody who changes profiles, until the transaction ends. */
extern void ps_history_lock(void);

/* Adds names, from since on; those that are tracked already stay as they are. Sets how long the history is kept. Needs the lock, and SPI. */
extern void ps_history_track(const PsTrackedName *names, int n, Interval *retention);

/* Removes a name; false when it is not tracked. Needs the lock, and SPI. */
extern bool ps_history_untrack(const char *name);

/* Whether there is any profile. Needs SPI. */
extern bool ps_history_any_profile(void);

#endif							/* PS_HISTORY_CATALOG_H */

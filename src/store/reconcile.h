/*
 * reconcile.h
 *	  Whether the counters of a stream add up.
 */
#ifndef PS_RECONCILE_H
#define PS_RECONCILE_H

#include "postgres.h"

/*
 * Selects a row for each partition of a stream, with the columns of reconcile();
 * returns how many, and leaves them in SPI_tuptable.
 */
extern uint64 ps_reconcile_select(int stream_id);

#endif							/* PS_RECONCILE_H */

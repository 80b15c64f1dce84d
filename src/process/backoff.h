/*
 * backoff.h
 *	  The wait before the next attempt after failures.
 */
#ifndef PS_BACKOFF_H
#define PS_BACKOFF_H

#include "postgres.h"

/*
 * Milliseconds to wait after so many failures in a row, from 1 s to 1 min. A random part
 * is added, so that not all processes try at the same moment.
 */
extern int64 ps_backoff_ms(int failures);

#endif							/* PS_BACKOFF_H */

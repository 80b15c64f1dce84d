/*
 * backoff.h
 *	  How long to wait before the next attempt.
 */
#ifndef PS_BACKOFF_H
#define PS_BACKOFF_H

#include "postgres.h"

/* Milliseconds to wait after so many failures in a row: doubles from 1 s to 1 min, and a random part so that not all come at once. */
extern int64 ps_backoff_ms(int failures);

#endif							/* PS_BACKOFF_H */

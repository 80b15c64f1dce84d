/*
 * relay.h
 *	  The process that delivers a stream's outbox.
 */
#ifndef PS_RELAY_H
#define PS_RELAY_H

#include "ingest/lease.h"

#define PS_RELAY_NUMBER PS_MAX_WORKERS	/* in place of a worker's, for its lease */

#endif							/* PS_RELAY_H */

/*
 * relay.h
 *	  The processes that deliver what a stream has for its sinks.
 */
#ifndef PS_RELAY_H
#define PS_RELAY_H

#include "ingest/lease.h"

#define PS_RELAY_NUMBER(kind) (PS_MAX_WORKERS + (kind)) /* in place of a worker's, for its lease */

#endif							/* PS_RELAY_H */

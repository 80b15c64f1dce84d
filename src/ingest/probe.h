/*
 * probe.h
 *	  Asks the broker on behalf of a session, from a short-lived worker.
 */
#ifndef PS_PROBE_H
#define PS_PROBE_H

#include "postgres.h"

#include "kafka/lookup.h"
#include "nodes/pg_list.h"

#define PS_PROBE_PARTITIONS 4096

typedef struct PsProbeAnswer
{
	bool		topic_missing;
	char		error[512];
	int			npartitions;
	PsLookupPartition partitions[PS_PROBE_PARTITIONS];
} PsProbeAnswer;

/*
 * Looks the topic up within the timeout; also finds the offsets of a time, unless
 * that is -1. Raises when no worker slot is free. The answer says what went wrong
 * otherwise; the caller may be interrupted while it waits.
 */
extern PsProbeAnswer *ps_probe(List *options, const char *topic, int64 time_ms, int timeout_ms);

#endif							/* PS_PROBE_H */

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
 * Looks the topic up within the timeout, interruptibly; asks for the offsets of a
 * time too, unless that is -1. Raises when there is no
 * free worker slot or no answer; the answer may itself hold an error.
 */
extern PsProbeAnswer *ps_probe(List *options, const char *topic, int64 time_ms, int timeout_ms);

#endif							/* PS_PROBE_H */

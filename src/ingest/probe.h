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

#define PS_PROBE_TOPICS 256

typedef struct PsProbeTopic
{
	char		name[PS_MAX_TOPIC_BYTES + 1];
	int32		topic_no;		/* as the question has it */
	bool		missing;
	char		error[400];		/* empty: none */
	int			npartitions;
	int			first;			/* place of its first partition */
} PsProbeTopic;

typedef struct PsProbeAnswer
{
	bool		topic_missing;	/* no topic exists */
	char		error[512];		/* empty: at least one topic answered */
	int			ntopics;
	PsProbeTopic topics[PS_PROBE_TOPICS];
	PsLookupPartition partitions[PS_PROBE_PARTITIONS];	/* of all topics */
} PsProbeAnswer;

/*
 * Looks topics (PsTopic) up within the timeout; also finds the offsets of a time, unless
 * that is -1. Raises when no worker slot is free, or there are too many topics. The answer
 * says what went wrong otherwise; the caller may be interrupted while it waits.
 */
extern PsProbeAnswer *ps_probe(List *options, List *topics, int64 time_ms, int timeout_ms);

static inline const PsLookupPartition *
ps_probe_partition(const PsProbeAnswer *answer, const PsProbeTopic *topic, int partition)
{
	return &answer->partitions[topic->first + partition];
}

#endif							/* PS_PROBE_H */

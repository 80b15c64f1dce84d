/*
 * lookup.h
 *	  Questions to the broker for which librdkafka has only calls that block. A side
 *	  thread asks them, so that the worker can go on.
 */
#ifndef PS_LOOKUP_H
#define PS_LOOKUP_H

#include "postgres.h"

#include "datatype/timestamp.h"

typedef struct PsLookupPartition
{
	int64		low;			/* first offset */
	int64		high;			/* end offset */
	int64		at_time;		/* offset of the first message of the time or later; -1: there is none */
} PsLookupPartition;

typedef struct PsLookup
{
	/* the question */
	void	   *rk;				/* rd_kafka_t */
	char		topic[256];
	int64		time_ms;		/* -1: no time is asked for */
	int			timeout_ms;

	/* the answer, once ps_lookup_done() */
	bool		topic_missing;
	char		error[512];		/* empty: none */
	int			npartitions;
	PsLookupPartition *partitions;	/* malloc'd */

	int			pipe[2];
	bool		running;
} PsLookup;

/* A time in milliseconds since 1970, as Kafka counts; -1 for an infinite one. */
extern int64 ps_kafka_time(TimestampTz at);

extern void ps_lookup_init(PsLookup *lookup, void *rk, const char *topic);

/* Begins to ask; false when no thread could be started. */
extern bool ps_lookup_start(PsLookup *lookup, int64 time_ms, int timeout_ms);

/* Whether the answer has come. */
extern bool ps_lookup_done(PsLookup *lookup);

/* Asks for the end offsets of partitions and waits; false when there is no answer. Any thread may call it. */
extern bool ps_lookup_ends(void *rk, const char *topic, const int32 *partitions, int n, int64 *ends, int timeout_ms);

#endif							/* PS_LOOKUP_H */

/*
 * lookup.h
 *	  Questions to the broker that librdkafka can only answer blocking: asked in
 *	  a side thread, so that the worker goes on serving its latch.
 */
#ifndef PS_LOOKUP_H
#define PS_LOOKUP_H

#include "postgres.h"

#include "datatype/timestamp.h"

typedef struct PsLookupPartition
{
	int64		low;			/* first offset that the topic has */
	int64		high;			/* end offset */
	int64		at_time;		/* offset for the time asked for; -1: none at or after it */
} PsLookupPartition;

typedef struct PsLookup
{
	/* the question */
	void	   *rk;				/* rd_kafka_t */
	char		topic[256];
	int64		time_ms;		/* -1: not asked for */
	int			timeout_ms;

	/* the answer, once ps_lookup_done() */
	bool		topic_missing;
	char		error[512];		/* empty: none */
	int			npartitions;
	PsLookupPartition *partitions;	/* malloc'd */

	int			pipe[2];
	bool		running;
} PsLookup;

/* A time as Kafka has it, in milliseconds since 1970; -1 for an infinite one. */
extern int64 ps_kafka_time(TimestampTz at);

extern void ps_lookup_init(PsLookup *lookup, void *rk, const char *topic);

/* Starts asking; false when no thread can be had. */
extern bool ps_lookup_start(PsLookup *lookup, int64 time_ms, int timeout_ms);

/* Whether the answer to what was started is there. */
extern bool ps_lookup_done(PsLookup *lookup);

/* Asks for the end offsets of partitions; false when there is no answer. For any thread. */
extern bool ps_lookup_ends(void *rk, const char *topic, const int32 *partitions, int n, int64 *ends, int timeout_ms);

#endif							/* PS_LOOKUP_H */

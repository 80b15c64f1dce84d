/*
 * lookup.h
 *	  Questions to the broker for which librdkafka has only calls that block. A side
 *	  thread asks them, so that the worker can go on.
 */
#ifndef PS_LOOKUP_H
#define PS_LOOKUP_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "message.h"

typedef struct PsLookupPartition
{
	int64		low;			/* first offset */
	int64		high;			/* end offset */
	int64		at_time;		/* offset of the first message of the time or later; -1: there is none */
} PsLookupPartition;

/* What the broker says of a topic. */
typedef struct PsLookupTopic
{
	int32		topic_no;
	char		name[PS_MAX_TOPIC_BYTES + 1];
	bool		missing;
	char		error[400];		/* empty: none */
	int			npartitions;	/* 0: the broker did not answer for it */
	PsLookupPartition *partitions;	/* malloc'd */
	int			known;			/* partitions that it has, while the thread asks for their offsets */
} PsLookupTopic;

typedef struct PsLookup
{
	/* the question */
	void	   *rk;				/* rd_kafka_t */
	int64		time_ms;		/* -1: no time is asked for */
	int			timeout_ms;
	bool		list;			/* ask for the names of all topics, too */
	bool		alone;			/* nobody else reads the events of the client */
	bool		asked;			/* it has asked before */
	volatile bool all_down;		/* no broker takes a connection; whoever reads the events of the client says so */

	/* the answer, once ps_lookup_done() */
	char		error[512];		/* empty: at least one topic answered, or none was asked for */
	bool		topic_missing;	/* with an error: no topic exists */
	bool		no_metadata;	/* with an error: no broker gave metadata */
	bool		no_offsets;		/* with an error: a broker gave metadata, and offsets did not come */
	PsLookupTopic *topics;		/* malloc'd; by topic_no */
	int			ntopics;
	char	  **names;			/* malloc'd */
	int			nnames;

	int			pipe[2];
	bool		running;
} PsLookup;

/* An end offset to ask for. */
typedef struct PsEnd
{
	char		topic[PS_MAX_TOPIC_BYTES + 1];
	int32		partition;
	int64		end_offset;		/* the answer; -1: there is none */
} PsEnd;

/* A time in milliseconds since 1970, as Kafka counts; -1 for an infinite one. */
extern int64 ps_kafka_time(TimestampTz at);

extern void ps_lookup_init(PsLookup *lookup, void *rk);

/* Begins to ask for topics, by topic_no; false when no thread could be started. */
extern bool ps_lookup_start(PsLookup *lookup, const PsTopic *topics, int n, bool list, int64 time_ms, int timeout_ms);

/* Whether the answer has come. */
extern bool ps_lookup_done(PsLookup *lookup);

/* The answer for a topic, NULL: it was not asked for; and for a partition, NULL: the topic has none of that number. */
extern const PsLookupTopic *ps_lookup_topic(const PsLookup *lookup, int32 topic_no);
extern const PsLookupPartition *ps_lookup_partition(const PsLookup *lookup, int32 topic_no, int32 partition);

/* How many partitions the topic with the most has, and all of them together. */
extern int	ps_lookup_most_partitions(const PsLookup *lookup);
extern int	ps_lookup_all_partitions(const PsLookup *lookup);

/* Asks for end offsets and waits; false when there is no answer. Any thread may call it. */
extern bool ps_lookup_ends(void *rk, PsEnd *ends, int n, int timeout_ms);

#endif							/* PS_LOOKUP_H */

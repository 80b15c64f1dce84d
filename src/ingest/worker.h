/*
 * worker.h
 *	  What a worker knows. A worker is a process that reads a stream, alone or
 *	  together with other workers of the stream; or a process that rebuilds a stream.
 *
 *	  Its life is one state, see life.c. What belongs to a state, or to one file, is
 *	  a struct of its own below.
 */
#ifndef PS_WORKER_H
#define PS_WORKER_H

#include "clock.h"
#include "ingest/waiting.h"
#include "kafka/consumer.h"
#include "kafka/lookup.h"
#include "kafka/silence.h"
#include "process/logged_reasons.h"
#include "store/stream_catalog.h"

typedef struct PsPartition PsPartition;
typedef struct PsLastPartition PsLastPartition; /* see order_check.c */
typedef struct PsAlign PsAlign;
typedef struct PsShardProgress PsShardProgress;

typedef enum PsLife
{
	PS_LIFE_STARTING,			/* it has not read its stream yet */
	PS_LIFE_CONNECTING,			/* it has no client of Kafka yet */
	PS_LIFE_LOOKING_UP,			/* it has no partitions to read: it asks the broker what the topic has */
	PS_LIFE_READING,
	PS_LIFE_BLOCKED,			/* deferred messages fill the memory: it reads nothing, and tries these again */
	PS_LIFE_BACKING_OFF,		/* after an error it waits for its next attempt */
	PS_LIFE_STOPPING			/* it applies what is held before it ends */
} PsLife;

/* While it backs off. */
typedef struct PsBackingOff
{
	PsMoment	until;
	PsLife		then;			/* the state that follows */
} PsBackingOff;

/* Asks the broker which offsets the partitions have: before it reads, and now and then while it does. */
typedef struct PsLookingUp
{
	PsLookup	lookup;
	PsSilence	silence;		/* of the brokers */
	PsMoment	next;			/* when to ask */
	int			interval_ms;	/* between two questions while it reads */
	PsLife		asked_in;		/* the state when it asked */
	uint64		asked_shards;	/* ps_shards_changes() when it asked */
	bool		ask_again;		/* the stream was altered after it asked */
} PsLookingUp;

/* What it reads. */
typedef struct PsReading
{
	PsPartition *partitions;	/* assigned ones, by topic and number */
	int			npartitions;
	int			found;			/* place of the partition that was found last */
	bool		topic_suspect;	/* a topic may be another one: look up as soon as the broker answers */
	PsMoment	last_turn;		/* when the loop came round last, 0 before the first time */
	bool		overslept;		/* the last wait ended too late */
	PsMoment	next_progress;	/* when to store what was read but is held */
	PsMoment	next_report;	/* when to tell Kafka the group's offsets */
	PsMoment	next_lag;		/* when to report how long messages wait */
	TimestampTz behind_since;	/* since when a message waits for more than a minute; 0: none does */
} PsReading;

/* What it knows of the partitions of one number, one for each topic, whether it reads them or not. */
typedef struct PsLease
{
	bool		held;
	bool		readable;		/* the stream wants them, and not all of their offsets are lost */
} PsLease;

/* Its share of the partitions, see balance.c. */
typedef struct PsBalance
{
	PsLease    *leases;			/* by partition: one worker reads the partitions of a number, of all topics */
	int			nleases;
	PsMoment	next;			/* when to look for a better balance */
} PsBalance;

/* How many customers a transaction may take, see lock_budget.c. */
typedef struct PsLockBudget
{
	int			max_customers;
	int			successes;		/* transactions since that number changed */
	int			patience;		/* successes before it grows */
	bool		grown;			/* since it was too large last */
} PsLockBudget;

/* What the worker does at the moment; failing has the same bits. */
#define PS_DOING_CONTROL 1		/* reads its stream */
#define PS_DOING_CONNECT 2		/* makes its client */
#define PS_DOING_LOOKUP 4		/* takes the answer of a look-up */
#define PS_DOING_BATCH 8
#define PS_DOING_RETENTION 16	/* the stream runs on without it */
#define PS_DOING_BROKER 32		/* asks the broker */

/* What does not work, see failure.c. */
typedef struct PsFailure
{
	int			doing;			/* what the worker does now */
	int			failing;		/* what failed and has not worked since */
	int			in_a_row;		/* errors, without those of single partitions */
	List	   *failed;			/* partitions of the range that failed just now */
	List	   *suspects;		/* partitions that failed, see failure.c */
	bool		superseded;		/* a transaction was given up because a session changed the stream: no failure */
	PsMoment	lock_wait_until;	/* so long a wait for a lock is shown, unless a batch is applied */
} PsFailure;

/* What a worker has tried since it started, see health.c */
typedef enum PsAttempt
{
	PS_ATTEMPT_START,			/* counted in the catalog */
	PS_ATTEMPT_NONE,
	PS_ATTEMPT_BATCH,			/* counted in the catalog */
	PS_ATTEMPT_PROVEN
} PsAttempt;

typedef struct PsHealth
{
	PsMoment	started_at;
	bool		counted;		/* in process_counters */
	PsAttempt	attempt;
	int64		minute_messages;	/* read in this minute */
	int64		minute_dead;
	PsMoment	minute_ends;
} PsHealth;

/* What the log is to say of events out of order, see order_report.c. */
typedef struct PsOrderReport
{
	PsCounts	counts;			/* since the log was told */
	char	   *late_event;		/* the first late one of these, in words; NULL: none */
	PsMoment	next;			/* the log is told no earlier */
	PsMoment	next_keys;		/* and of keys alone no earlier than this */
} PsOrderReport;

/* See retention.c. */
typedef struct PsRetention
{
	PsMoment	next;
	PsMoment	next_letters;	/* when to measure the dead letters again */
	PsMoment	next_sample;	/* when to take the sizes of the tables again */
	PsMoment	next_live;		/* when to look for customers whose live segments change with time */
	int64		page;			/* of event_id_chunks, where the next step begins */
	int			failures;		/* in a row */
	char	   *error;			/* NULL: it works */
} PsRetention;

/* What stat_streams and the log say of the worker, see worker_state.c. */
typedef struct PsShown
{
	PsStreamState state;		/* as last written */
	char	   *error;			/* as last written */
	PsLoggedReasons logged;		/* reasons that the log has since the stream ran well */
	int			errors;			/* to be added to process_counters */
	int			retries;
	char	   *client_error;	/* librdkafka's newest error since the last good answer, NULL: none */
} PsShown;

typedef struct PsWorker
{
	int			stream_id;
	int			number;			/* from 0, among the workers of the stream */
	PsStream   *stream;
	uint64		stream_reads;	/* how often the stream was read from the catalog */
	bool		rebuild_ready;	/* of a rebuild: it has read to what was the end of the topic */
	List	   *rebuilt_beside; /* int: other streams that are rebuilt at the same time */
	List	   *poison_messages;	/* PsPoisonMessage: messages that ended earlier workers */

	MemoryContext context;		/* lives as long as the worker */
	MemoryContext stream_context;	/* of stream, replaced when that is read again */
	MemoryContext batch_context;	/* reset after each batch */
	MemoryContext apply_context;	/* reset before each transaction */
	MemoryContext parts_context;	/* of PsParts, reset with what waits */

	PsTopic    *topics;			/* that the stream reads, by number; names live as long as the process */
	int			ntopics;
	uint64		topics_of;		/* stream_reads when they were read */
	bool		topics_well;	/* the catalog says that all of them are read */
	int64		partitions_noted;	/* of all topics, as the catalog has them */
	char	   *listed_pattern; /* topic_pattern with which topics were looked for; NULL: not yet */

	PsConsumer *consumer;		/* NULL: not connected */
	List	   *connection;		/* the options that the consumer was made with */
	PsAlign    *align;			/* messages of several topics that come later; NULL: the stream has one */
	PsShardProgress *shards;	/* see shard_progress.c; NULL: profiles are not distributed */
	PsWaiting  *waiting;		/* messages that cannot be applied yet */

	PsLife		life;			/* changed in life.c only */
	PsBackingOff backing_off;
	PsLookingUp looking_up;
	PsReading	reading;
	PsBalance	balance;
	PsLockBudget lock_budget;
	PsFailure	failure;
	PsHealth	health;
	PsLastPartition *last_partitions;	/* NULL: none are remembered */
	PsOrderReport order_report;
	PsRetention retention;
	PsShown		shown;
} PsWorker;

#endif							/* PS_WORKER_H */

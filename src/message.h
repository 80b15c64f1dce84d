/*
 * message.h
 *	  A message as Kafka delivered it, and what became of it. All rooms use these
 *	  words:
 *
 *	  message     one Kafka record: key, value, headers, partition, offset
 *	  event       a message that was decoded and is valid
 *	  dead letter a message that is not an event, is late, or was refused by a handler
 *	  late        an event older than the newest one applied for its customer, by more
 *	              than late_tolerance; late_policy says what becomes of it
 *	  ignored     an event of a type that the stream does not take
 *	  held        a message that was read and waits for reorder_wait, as earlier events
 *	              may still arrive
 *	  deferred    a message that was read and waits because another transaction holds
 *	              its customer's lock or row; the customer is deferred, too
 *	  replayed    a message that was read again, as after a restart
 *	  tombstone   a message without a value
 *	  blocked     a message of a customer whom forget_customer() blocked
 *	  elsewhere   a message of a customer whose shard another node has, or had when it
 *	              was applied
 */
#ifndef PS_MESSAGE_H
#define PS_MESSAGE_H

#include "postgres.h"

#include "datatype/timestamp.h"

#define PS_MAX_ID_BYTES 512
#define PS_MAX_TOPIC_BYTES 249	/* Kafka has this limit */

/* A message beyond these limits becomes a dead letter, which has only its beginning: doc/reference/limits.md. */
#define PS_KEPT_VALUE_BYTES 65536	/* kept of a value above max_event_bytes */
#define PS_MAX_KEY_BYTES 16384
#define PS_MAX_HEADERS 100
#define PS_MAX_HEADER_BYTES 65536	/* names and values of all headers of a message */

/*
 * The counters of a partition, each a column of stream_offsets with the same name:
 *
 *	X(counter, outcome, name)
 *
 * counts messages with the outcome PS_outcome, which apply_events() returns as the
 * name. A counter without an outcome is in PS_COUNTERS alone and has no name.
 * Between the rows stands SEPARATOR, which may be empty.
 */
#define PS_OUTCOME_COUNTERS(X, SEPARATOR) \
	X(applied, APPLIED, "applied") SEPARATOR \
	X(duplicates, DUPLICATE, "duplicate") SEPARATOR \
	X(dead, DEAD, "dead") SEPARATOR \
	X(late, LATE, "late") SEPARATOR \
	X(late_dropped, LATE_DROPPED, "late_dropped") SEPARATOR \
	X(ignored, IGNORED, "ignored") SEPARATOR \
	X(tombstones, TOMBSTONE, "tombstone") SEPARATOR \
	X(blocked, BLOCKED, "blocked")

#define PS_COUNTERS(X, SEPARATOR) \
	PS_OUTCOME_COUNTERS(X, SEPARATOR) SEPARATOR \
	X(replayed, NO_OUTCOME, NULL)	/* read again, having been read before the partition was assigned */

/* Counters of messages that one of PS_COUNTERS, or another node, counts as well. So reconcile() does not add them up. */
#define PS_NOTES(X, SEPARATOR) \
	X(late_applied, NO_OUTCOME, NULL) SEPARATOR	/* applied although late */ \
	X(other_key, NO_OUTCOME, NULL) SEPARATOR	/* an event whose key is not its customer */ \
	X(other_partition, NO_OUTCOME, NULL) SEPARATOR	/* the last event of the same customer came from another partition */ \
	X(elsewhere, NO_OUTCOME, NULL)	/* not consumed here */

#define PS_ALL_COUNTERS(X, SEPARATOR) \
	PS_COUNTERS(X, SEPARATOR) SEPARATOR \
	PS_NOTES(X, SEPARATOR)

/* The counters of a worker or relay, each a column of process_counters, stat_streams and stat_sinks with the same name. */
#define PS_PROCESS_COUNTERS(X, SEPARATOR) \
	X(errors) SEPARATOR			/* reasons why the process could not go on; one that lasts counts once */ \
	X(retries) SEPARATOR		/* attempts that failed and were tried again */ \
	X(restarts)					/* starts of the process after it ended without being told to */

/* Why messages become dead letters, the column kind of dead_letters. */
#define PS_LETTER_KINDS(X, SEPARATOR) \
	X(malformed) SEPARATOR \
	X(invalid) SEPARATOR \
	X(handler) SEPARATOR \
	X(late)

/* What became of one message. */
#define PS_OUTCOME(counter, outcome, name) PS_##outcome,
typedef enum PsOutcome
{
	PS_PENDING = 0,				/* nothing yet */
	PS_DEFERRED,				/* not applied: another transaction holds its customer's lock or row */
	PS_ELSEWHERE,				/* not applied here: another node does so, or did before the shard came here */
	PS_OUTCOME_COUNTERS(PS_OUTCOME,)
	PS_OUTCOMES
} PsOutcome;

extern const char *const ps_outcome_names[PS_OUTCOMES];

typedef struct PsHeader
{
	const char *name;
	const char *value;			/* NULL when the header has no value */
	int			value_len;
} PsHeader;

/* A topic that a stream reads. The stream has given it its number, and gives that to no other. */
typedef struct PsTopic
{
	int32		topic_no;		/* -1: it has none yet */
	const char *name;
	bool		is_new;			/* it came while the stream looked for topics: it is read from its beginning */
} PsTopic;

/* An offset of a partition. */
typedef struct PsPosition
{
	int32		topic_no;
	int32		partition;
	int64		offset;			/* mostly the next to be read */
} PsPosition;

typedef struct PsMessage
{
	const char *topic;			/* NULL when the message did not come from Kafka; it lives as long as the process */
	int32		topic_no;		/* in its stream */
	int32		partition;		/* -1 when the message did not come from Kafka */
	int64		offset;			/* -1 likewise */
	int32		epoch;			/* how often the stream has seen the topic re-created */
	TimestampTz kafka_timestamp;	/* DT_NOBEGIN when there is none */
	const char *key;			/* NULL when there is none */
	int			key_len;
	const char *value;			/* NULL: tombstone */
	int			value_len;
	const PsHeader *headers;
	int			nheaders;
	int64		value_cut;		/* number of bytes that were cut from the end of the value */
	int64		key_cut;		/* and of the key */
	int64		headers_cut;	/* number of headers that were left out; negative: they cannot be read */

	/* what the decoder of a stream made of the message; formats read it in place of the value */
	const char *decoded;		/* JSON; NULL: there is none */
	int			decoded_len;
	const char *refused;		/* why the decoder made nothing; NULL: it did not fail */
	char		refused_sqlstate[6];	/* of its error; "" where it raised none */
	bool		is_ignored;		/* the decoder says that the message is no event */
} PsMessage;

#define PS_COUNTER_FIELD(counter, ...) int64 counter;
typedef struct PsCounts
{
	PS_ALL_COUNTERS(PS_COUNTER_FIELD,)
	int64		consumed;		/* messages read: the sum of PS_COUNTERS and of what is held */
} PsCounts;

/* Adds counters to others. */
extern void ps_counts_add(PsCounts *counts, const PsCounts *more);

/* Whether the key of a message is a customer's id, as it is or as a JSON string. */
extern bool ps_message_has_key(const PsMessage *message, const char *customer_id, int len);

/* The id that the key of a message is, without the quotes of a JSON string; NULL: the message has no key. */
extern const char *ps_message_key_id(const PsMessage *message, int *len);

/* Size of what Kafka delivered. */
extern Size ps_message_size(const PsMessage *message);

/* Size of everything that a message points to. */
extern Size ps_message_space(const PsMessage *message);

/* Copies a message. What it points to is copied to space, which is aligned and has ps_message_space() bytes. */
extern void ps_message_copy(PsMessage *copy, char *space, const PsMessage *message);

#endif							/* PS_MESSAGE_H */

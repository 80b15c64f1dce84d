/*
 * message.h
 *	  Words that every room shares: a message as Kafka delivered it, what became
 *	  of it, and the settings that reach the pure code as arguments.
 *
 *	  message     one Kafka record: key, value, headers, partition, offset
 *	  event       a message that decoded and passed validation
 *	  dead letter a message that did not, or whose handler refused it, or a late one
 *	  late        older than what was applied for its customer less late_tolerance
 *	  held        read, but not applied yet: others that happened before may come,
 *	              or its customer is set aside
 *	  set aside   a customer whose lock somebody keeps
 *	  replayed    read again, after a restart
 *	  tombstone   a message without a value
 *	  blocked     of a customer who was forgotten for good
 */
#ifndef PS_MESSAGE_H
#define PS_MESSAGE_H

#include "postgres.h"

#include "datatype/timestamp.h"

#define PS_MAX_ID_BYTES 512

/* What is kept of a message that has more is its begin; it becomes a dead letter. doc/reference/limits.md. */
#define PS_KEPT_VALUE_BYTES 65536	/* of a value above max_event_bytes */
#define PS_MAX_KEY_BYTES 16384
#define PS_MAX_HEADERS 100
#define PS_MAX_HEADER_BYTES 65536	/* of names and values of all of them */

/* What became of one message. */
typedef enum PsOutcome
{
	PS_PENDING = 0,
	PS_APPLIED,
	PS_DUPLICATE,
	PS_DEAD,
	PS_LATE,
	PS_TOMBSTONE,
	PS_HELD,
	PS_BLOCKED
} PsOutcome;

typedef struct PsHeader
{
	const char *name;
	const char *value;			/* NULL when the header has no value */
	int			value_len;
} PsHeader;

typedef struct PsMessage
{
	int32		partition;		/* -1 when the message did not come from Kafka */
	int64		offset;			/* -1 likewise */
	int32		epoch;			/* how often the topic was created anew, as far as the stream knows */
	TimestampTz kafka_timestamp;	/* DT_NOBEGIN when there is none */
	const char *key;			/* NULL when there is none */
	int			key_len;
	const char *value;			/* NULL: tombstone */
	int			value_len;
	const PsHeader *headers;
	int			nheaders;
	int64		value_cut;		/* bytes behind value_len that are not kept: it is too large */
	int64		key_cut;		/* likewise */
	int64		headers_cut;	/* headers that are not kept */
} PsMessage;

/* Counters of one partition. */
typedef struct PsCounts
{
	int64		applied;
	int64		duplicates;
	int64		dead;
	int64		late;
	int64		tombstones;
	int64		blocked;
	int64		replayed;		/* read again, having been read before the worker started */
	int64		consumed;		/* read: the sum of all these, and of what is held */
} PsCounts;

/* Room that everything takes that a message points to. */
extern Size ps_message_space(const PsMessage *message);

/* Copies a message; what it points to goes to space, which is aligned and has that room. */
extern void ps_message_copy(PsMessage *copy, char *space, const PsMessage *message);

#endif							/* PS_MESSAGE_H */

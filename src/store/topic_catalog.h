/*
 * topic_catalog.h
 *	  The topics of a stream: their numbers, and what the broker says of them. Every call
 *	  needs an SPI connection.
 */
#ifndef PS_TOPIC_CATALOG_H
#define PS_TOPIC_CATALOG_H

#include "kafka/lookup.h"
#include "message.h"
#include "nodes/pg_list.h"
#include "store/stream.h"

/* The topics (PsTopic) that a stream reads, by number; those that it has not read before get one. */
extern List *ps_topics_number(const PsStream *stream);

/* The same, but those that have no number yet do not get one: for sessions, also on a standby. */
extern List *ps_topics_known(const PsStream *stream);

/*
 * Adds the topics among these names that the stream's pattern matches. later: the stream
 * has looked for them before, so that they are new, and are read from their beginning.
 * Returns how many.
 */
extern int	ps_topics_discover(const PsStream *stream, char **names, int n, bool later);

/* Notes which topics exist and answer, and how many partitions they have; logs each that comes or goes. */
extern void ps_topics_note(const PsStream *stream, const PsLookup *lookup);

/* Whether an option of a stream names a topic. Needs no SPI. */
extern bool ps_stream_names_topic(const PsStream *stream, const char *topic);

/* The same, or its pattern matches the name. */
extern bool ps_stream_takes_topic(const PsStream *stream, const char *topic);

#endif							/* PS_TOPIC_CATALOG_H */

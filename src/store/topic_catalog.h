/*
 * topic_catalog.h
 *	  The topics of a stream, and their numbers. Every call needs an SPI connection.
 */
#ifndef PS_TOPIC_CATALOG_H
#define PS_TOPIC_CATALOG_H

#include "message.h"
#include "nodes/pg_list.h"
#include "store/stream.h"

/* The topics (PsTopic) that a stream reads, by number; those that it has not read before get one. */
extern List *ps_topics_number(const PsStream *stream);

#endif							/* PS_TOPIC_CATALOG_H */

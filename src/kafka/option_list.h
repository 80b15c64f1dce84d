/*
 * option_list.h
 *	  Options of librdkafka, as lists of names and values.
 */
#ifndef PS_OPTION_LIST_H
#define PS_OPTION_LIST_H

#include "postgres.h"

#include "nodes/pg_list.h"

typedef struct PsKafkaOption
{
	const char *name;
	const char *value;
} PsKafkaOption;

/* Adds an option to a list of PsKafkaOption. */
extern List *ps_kafka_add_option(List *options, const char *name, const char *value);

/* The value of an option in milliseconds; the fallback when it is not set or not positive. */
extern int	ps_kafka_option_ms(List *options, const char *name, int fallback);

/* How often a client asks its brokers for the metadata. */
extern int	ps_kafka_interval_ms(List *options);

/* Whether two lists name the same values in the same order. */
extern bool ps_kafka_options_equal(List *a, List *b);

#endif							/* PS_OPTION_LIST_H */

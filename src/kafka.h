/*
 * kafka.h
 *	  Configuration of librdkafka clients: which options may be set by whom, and
 *	  the ones that are ours.
 */
#ifndef PS_KAFKA_H
#define PS_KAFKA_H

#include "postgres.h"

#include "nodes/pg_list.h"

typedef enum PsOptionPlace
{
	PS_OPTION_STREAM,			/* create_stream(options => …) beside brokers */
	PS_OPTION_SERVERS_STREAM,	/* beside a server, whose secrets it uses */
	PS_OPTION_SERVER,
	PS_OPTION_USER_MAPPING
} PsOptionPlace;

typedef struct PsKafkaOption
{
	const char *name;
	const char *value;
} PsKafkaOption;

/* Raises unless this option may stand in this place, set by this role. */
extern void ps_kafka_check_option(const char *name, const char *value, PsOptionPlace place, Oid role);

/* Adds an option to a list of PsKafkaOption. */
extern List *ps_kafka_add_option(List *options, const char *name, const char *value);

/* The value of an option that is a time in milliseconds; fallback when it is not set or not positive. */
extern int	ps_kafka_option_ms(List *options, const char *name, int fallback);

/* Whether two lists name the same values in the same order. */
extern bool ps_kafka_options_equal(List *a, List *b);

/*
 * Makes a rd_kafka_t (returned as void *, so that rdkafka.h stays in few
 * files) from options that have passed the check; raises when librdkafka refuses.
 */
extern void *ps_kafka_create_consumer(List *options, const char *group_id);

/* Likewise one of transactions, of which Kafka lets but the last producer of an id go on. */
extern void *ps_kafka_create_producer(List *options, const char *transactional_id);

#endif							/* PS_KAFKA_H */

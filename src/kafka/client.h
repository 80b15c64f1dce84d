/*
 * client.h
 *	  Configuration of librdkafka clients: which options may be set by whom, and
 *	  the ones that are ours.
 */
#ifndef PS_CLIENT_H
#define PS_CLIENT_H

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

/* Raises unless librdkafka takes these values, for consumers and for producers, as far as that can be told without a client. */
extern void ps_kafka_check_values(List *options);

/* Adds an option to a list of PsKafkaOption. */
extern List *ps_kafka_add_option(List *options, const char *name, const char *value);

/* The value of an option that is a time in milliseconds; fallback when it is not set or not positive. */
extern int	ps_kafka_option_ms(List *options, const char *name, int fallback);

/* Whether two lists name the same values in the same order. */
extern bool ps_kafka_options_equal(List *a, List *b);

/* The version of librdkafka that runs, and the one that this was built with. */
extern const char *ps_kafka_version(void);
extern const char *ps_kafka_version_built(void);

/* What is wrong with a version of librdkafka, NULL: nothing that is known. */
extern char *ps_kafka_version_warning(const char *version);

/*
 * Makes a rd_kafka_t (returned as void *, so that rdkafka.h stays in few
 * files) from options that have passed the check; raises when librdkafka refuses.
 */
extern void *ps_kafka_create_consumer(List *options, const char *group_id);

/* Likewise one of transactions, of which Kafka lets but the last producer of an id go on. */
extern void *ps_kafka_create_producer(List *options, const char *transactional_id);

#endif							/* PS_CLIENT_H */

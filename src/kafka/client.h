/*
 * client.h
 *	  The configuration of librdkafka clients: who may set which option, and which
 *	  options every client has.
 */
#ifndef PS_CLIENT_H
#define PS_CLIENT_H

#include "postgres.h"

#include "kafka/option_list.h"

typedef enum PsOptionPlace
{
	PS_OPTION_STREAM,			/* create_stream(bootstrap_servers => …, options => …) */
	PS_OPTION_SERVERS_STREAM,	/* create_stream(server => …, options => …): the stream uses the server's secrets */
	PS_OPTION_SERVER,
	PS_OPTION_USER_MAPPING,
	PS_OPTION_FILES_MAPPING		/* of a server that reads secrets from files: its user must not have them sent
								 * otherwise */
} PsOptionPlace;

/* Raises unless this role may set this option in this place. */
extern void ps_kafka_check_option(const char *name, const char *value, PsOptionPlace place, Oid role);

/*
 * Raises unless this names brokers: each a host with or without a port. librdkafka skips
 * what it cannot read, such as a URL, and only a worker would find that no broker is left.
 */
extern void ps_kafka_check_brokers(const char *brokers);

/* Raises unless librdkafka takes these values for a consumer and for a producer. Makes no client for that. */
extern void ps_kafka_check_values(List *options);

/* The version of librdkafka that runs, and the one that this was built with. */
extern const char *ps_kafka_version(void);
extern const char *ps_kafka_version_built(void);

/* A known fault of a version of librdkafka, NULL when none is known. */
extern char *ps_kafka_version_warning(const char *version);

/* What to do when a broker does not answer, by the error that librdkafka gives. */
extern char *ps_kafka_connect_hint(const char *error);

/*
 * Makes a rd_kafka_t from checked options; raises when librdkafka refuses them. It is
 * returned as void *, so that no other room needs rdkafka.h.
 */
extern void *ps_kafka_create_consumer(List *options, const char *group_id);

/* Whether a producer uses transactions, as the options say. */
extern bool ps_kafka_transactions(List *options);

/* The same for a producer. With transactions Kafka stops all older producers of the id. */
extern void *ps_kafka_create_producer(List *options, const char *transactional_id);

/*
 * Makes a rd_kafka_queue_t for the log lines of a client; each one that comes into the
 * empty queue writes a byte to the descriptor. The queue of its events must not get
 * them: librdkafka logs while it holds that queue's lock, and would wait for itself.
 */
extern void *ps_kafka_queue_logs(void *rk, int wakeup_fd);

#endif							/* PS_CLIENT_H */

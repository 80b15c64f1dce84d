/*
 * client.h
 *	  What the tools share that are clients of Kafka: how they give up, and how a
 *	  client is made. To be included first.
 */
#ifndef CLIENT_H
#define CLIENT_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE				/* for program_invocation_short_name */
#endif

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include <librdkafka/rdkafka.h>

static inline void
die(const char *what, const char *why)
{
	fprintf(stderr, "%s: %s: %s\n", program_invocation_short_name, what, why);
	exit(1);
}

static inline void
set_option(rd_kafka_conf_t *conf, const char *name, const char *value)
{
	char		errstr[512];

	if (rd_kafka_conf_set(conf, name, value, errstr, sizeof(errstr)) != RD_KAFKA_CONF_OK)
		die(name, errstr);
}

static inline rd_kafka_conf_t *
make_conf(const char *brokers)
{
	rd_kafka_conf_t *conf = rd_kafka_conf_new();

	set_option(conf, "bootstrap.servers", brokers);
	return conf;
}

/* Makes a client of a configuration, which it then owns. */
static inline rd_kafka_t *
open_client(rd_kafka_type_t type, rd_kafka_conf_t *conf)
{
	char		errstr[512];
	rd_kafka_t *handle = rd_kafka_new(type, conf, errstr, sizeof(errstr));

	if (handle == NULL)
		die("could not create the client", errstr);
	return handle;
}

#endif							/* CLIENT_H */

/*
 * options.h
 *	  Options of a stream's Kafka client, gathered from the stream, its server
 *	  and the owner's user mapping.
 */
#ifndef PS_OPTIONS_H
#define PS_OPTIONS_H

#include "postgres.h"

#include "nodes/pg_list.h"
#include "utils/jsonb.h"

/* What to do about a broker that does not answer. */
#define PS_REACH_HINT "Check the brokers' addresses, and that they are reachable from the database server."

/* PsKafkaOption list; server or brokers is NULL; every option is checked for that role. */
extern List *ps_connection_options(const char *server, const char *bootstrap_servers, Jsonb *options, Oid role);

#endif							/* PS_OPTIONS_H */

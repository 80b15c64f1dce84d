/*
 * options.h
 *	  The options of a stream's Kafka client, from the stream, its server and the user
 *	  mapping of its owner.
 */
#ifndef PS_OPTIONS_H
#define PS_OPTIONS_H

#include "postgres.h"

#include "nodes/pg_list.h"
#include "utils/jsonb.h"

/*
 * List of PsKafkaOption, with what is in files of secrets. Raises unless the role may set each option. Either server or
 * bootstrap_servers is NULL.
 */
extern List *ps_connection_options(const char *server, const char *bootstrap_servers, Jsonb *options, Oid role);

#endif							/* PS_OPTIONS_H */

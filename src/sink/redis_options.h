/*
 * redis_options.h
 *	  Where a Redis is and how it is entered: the options of servers and user
 *	  mappings of profile_stream_redis, and addresses given directly.
 */
#ifndef PS_REDIS_OPTIONS_H
#define PS_REDIS_OPTIONS_H

#include "postgres.h"

typedef struct PsRedisTarget
{
	const char *host;			/* NULL: unix_socket */
	int			port;
	const char *unix_socket;
	int			database;
	const char *username;		/* NULL: the default user */
	const char *password;		/* NULL: no AUTH; appears in no message */
} PsRedisTarget;

/* Raises unless this option may stand in a server, or in a user mapping. */
extern void ps_redis_check_option(const char *name, const char *value, bool in_mapping, Oid role);

/*
 * What "host:port", the absolute path of a socket, or the name of a server
 * stands for; raises unless that role may use it.
 */
extern PsRedisTarget *ps_redis_target(const char *redis, Oid role);

#endif							/* PS_REDIS_OPTIONS_H */

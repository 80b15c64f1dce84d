/*
 * redis_options.h
 *	  The address of a Redis and its login: from the options of a server and user mapping
 *	  of profile_stream_redis, or given directly.
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
	const char *password;		/* NULL: no AUTH. No message shows it. */
} PsRedisTarget;

/* Raises unless the option is allowed in a server, or in a user mapping, and its value is valid. */
extern void ps_redis_check_option(const char *name, const char *value, bool in_mapping, Oid role);

/*
 * Reads "host:port", the absolute path of a socket, or the name of a server. Raises
 * unless the role may use it.
 */
extern PsRedisTarget *ps_redis_target(const char *redis, Oid role);

#endif							/* PS_REDIS_OPTIONS_H */

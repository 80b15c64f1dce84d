/*
 * redis_options.h
 *	  The address of a Redis and its login: from the options of a server and user mapping
 *	  of profile_stream_redis, or given directly.
 */
#ifndef PS_REDIS_OPTIONS_H
#define PS_REDIS_OPTIONS_H

#include "postgres.h"

#include "nodes/pg_list.h"

#define PS_MAX_SENTINELS 16

/* As libpq has them. */
typedef enum PsSslMode
{
	PS_SSL_DISABLE,
	PS_SSL_REQUIRE,				/* encrypted; the certificate is checked if there is an sslrootcert */
	PS_SSL_VERIFY_CA,			/* and the certificate is of a known authority */
	PS_SSL_VERIFY_FULL			/* and has the name of the server */
} PsSslMode;

typedef struct PsRedisAddress
{
	const char *host;
	int			port;
} PsRedisAddress;

typedef struct PsRedisTarget
{
	const char *host;			/* NULL: unix_socket or sentinels */
	int			port;
	const char *unix_socket;
	PsRedisAddress sentinels[PS_MAX_SENTINELS]; /* that know where the primary is */
	int			nsentinels;		/* 0: none */
	const char *sentinel_service;	/* the name of the primary at the Sentinels */
	int			database;
	const char *username;		/* NULL: the default user */
	const char *password;		/* NULL: no AUTH. No message shows it. */
	const char *sentinel_username;
	const char *sentinel_password;
	PsSslMode	sslmode;
	const char *sslrootcert;	/* NULL: the authorities of the system */
	const char *sslcert;		/* NULL: no client certificate; else sslkey is set */
	const char *sslkey;
	const char *sslservername;	/* NULL: the host */
} PsRedisTarget;

/* Raises unless the option is allowed in a server, or in a user mapping, and its value is valid. */
extern void ps_redis_check_option(const char *name, const char *value, bool in_mapping, Oid role);

/* Raises unless the options of a server go together; each was checked. */
extern void ps_redis_check_server(List *options);

/*
 * Reads "host:port", the absolute path of a socket, or the name of a server. Raises
 * unless the role may use it.
 */
extern PsRedisTarget *ps_redis_target(const char *redis, Oid role);

#endif							/* PS_REDIS_OPTIONS_H */

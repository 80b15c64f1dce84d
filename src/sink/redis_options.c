/*
 * redis_options.c
 *	  Reads and checks the address of a Redis and the options of its server. The functions
 *	  with an argument redis call it too, so that wrong ones are refused at once.
 */
#include "postgres.h"

#include "catalog/pg_foreign_server.h"
#include "commands/defrem.h"
#include "compat.h"
#include "foreign/foreign.h"
#include "miscadmin.h"
#include "sink/redis_options.h"
#include "sink/sink.h"
#include "utils/acl.h"
#include "utils/syscache.h"

#include <sys/un.h>

#define REDIS_WRAPPER "profile_stream_redis"
#define DEFAULT_PORT 6379

/* Refuses an option. The log does not get the statement, because it may hold a secret. */
static void
redis_options_refuse(int code, const char *message, const char *name, const char *hint)
{
	ereport(ERROR,
			(errcode(code),
			 errmsg(message, name),
			 errhint("%s", hint),
			 errhidestmt(true)));
}

/* Reads a whole number within bounds; -1 when it is none. */
static int
redis_options_read_number(const char *text, int least, int most)
{
	char	   *end;
	long		number = strtol(text, &end, 10);

	return *text == '\0' || *end != '\0' || number < least || number > most ? -1 : (int) number;
}

void
ps_redis_check_option(const char *name, const char *value, bool in_mapping, Oid role)
{
	const char *invalid = NULL;

	if (in_mapping)
	{
		if (strcmp(name, "username") != 0 && strcmp(name, "password") != 0)
			redis_options_refuse(ERRCODE_FDW_INVALID_OPTION_NAME, "option \"%s\" is not allowed here", name,
								 "A user mapping has username and password.");
		if (*value == '\0')
			invalid = "It must not be empty.";
	}
	else if (strcmp(name, "host") == 0)
		invalid = *value == '\0' ? "It must not be empty." : NULL;
	else if (strcmp(name, "port") == 0)
		invalid = redis_options_read_number(value, 1, 65535) < 0 ? "It must be 1 to 65535." : NULL;
	else if (strcmp(name, "database") == 0)
		invalid = redis_options_read_number(value, 0, PG_INT16_MAX) < 0 ? "It must be the number of a database of that Redis." : NULL;
	else if (strcmp(name, "unix_socket") == 0)
	{
		if (!superuser_arg(role))
			redis_options_refuse(ERRCODE_INSUFFICIENT_PRIVILEGE, "permission denied to set option \"%s\"", name,
								 "Sockets in the server's file system are for superusers.");
		if (*value != '/' || strlen(value) >= sizeof(((struct sockaddr_un *) NULL)->sun_path))
			invalid = "It must be an absolute path that a socket can have.";
	}
	else if (strcmp(name, "sslmode") == 0)
	{
		if (strcmp(value, "disable") != 0)
			redis_options_refuse(ERRCODE_FEATURE_NOT_SUPPORTED, "\"%s\" other than disable is not supported for Redis", name,
								 "Use a unix socket, or a local TLS tunnel such as stunnel.");
	}
	else
		redis_options_refuse(ERRCODE_FDW_INVALID_OPTION_NAME, "option \"%s\" is not allowed here", name,
							 strcmp(name, "username") == 0 || strcmp(name, "password") == 0
							 ? "Keep it in a user mapping: CREATE USER MAPPING ... OPTIONS (...)."
							 : "A server has host, port, unix_socket, database and sslmode.");
	if (invalid != NULL)
		redis_options_refuse(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE, "invalid value for option \"%s\"", name, invalid);
}

/* Copies options into the target. */
static void
redis_take_options(PsRedisTarget *target, List *options, bool in_mapping, Oid role)
{
	ListCell   *cell;

	foreach(cell, options)
	{
		DefElem    *def = lfirst(cell);
		const char *name = def->defname;
		const char *value = defGetString(def);

		ps_redis_check_option(name, value, in_mapping, role);
		if (strcmp(name, "host") == 0)
			target->host = pstrdup(value);
		else if (strcmp(name, "port") == 0)
			target->port = atoi(value);
		else if (strcmp(name, "unix_socket") == 0)
			target->unix_socket = pstrdup(value);
		else if (strcmp(name, "database") == 0)
			target->database = atoi(value);
		else if (strcmp(name, "username") == 0)
			target->username = pstrdup(value);
		else if (strcmp(name, "password") == 0)
			target->password = pstrdup(value);
	}
}

/* Takes the options of a server and of the role's user mapping. */
static void
take_server(PsRedisTarget *target, const char *name, Oid role)
{
	ForeignServer *server = GetForeignServerByName(name, true);

	if (server == NULL || strcmp(GetForeignDataWrapper(server->fdwid)->fdwname, REDIS_WRAPPER) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("\"%s\" is not a Redis server", name),
				 errhint("redis is a host:port, the absolute path of a socket, or a server of CREATE SERVER ... FOREIGN DATA WRAPPER " REDIS_WRAPPER ".")));
	if (ps_server_aclcheck(server->serverid, role, ACL_USAGE) != ACLCHECK_OK)
		aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_FOREIGN_SERVER, name);
	redis_take_options(target, server->options, false, server->owner);
	if (SearchSysCacheExists2(USERMAPPINGUSERSERVER, ObjectIdGetDatum(role), ObjectIdGetDatum(server->serverid)) ||
		SearchSysCacheExists2(USERMAPPINGUSERSERVER, ObjectIdGetDatum(InvalidOid), ObjectIdGetDatum(server->serverid)))
		redis_take_options(target, GetUserMapping(role, server->serverid)->options, true, role);
}

PsRedisTarget *
ps_redis_target(const char *redis, Oid role)
{
	PsRedisTarget *target = palloc0(sizeof(PsRedisTarget));
	char	   *host = pstrdup(redis);
	char	   *colon = strrchr(host, ':');

	target->port = DEFAULT_PORT;
	if (colon == NULL && redis[0] != '/')
	{
		take_server(target, redis, role);
		return target;
	}
	if (!superuser_arg(role))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied to give the address of a Redis"),
				 errhint("Give the name of a server that a superuser has created and granted USAGE on.")));
	if (redis[0] == '/')
	{
		ps_redis_check_option("unix_socket", redis, false, role);
		target->unix_socket = host;
		return target;
	}
	*colon = '\0';
	if (host[0] == '[' && colon[-1] == ']')
	{
		colon[-1] = '\0';		/* [::1]:6379 */
		host++;
	}
	ps_redis_check_option("host", host, false, role);
	ps_redis_check_option("port", colon + 1, false, role);
	target->host = host;
	target->port = atoi(colon + 1);
	return target;
}

void
ps_redis_sink_check(const PsStream *stream, PsSinkKind kind, Oid role)
{
	(void) ps_redis_target(stream->sinks[kind], role);
}

/*
 * redis_options.c
 *	  Reads and checks the address of a Redis and the options of its server. The functions
 *	  with an argument redis call it too, so that wrong ones are refused at once.
 */
#include "postgres.h"

#include "catalog/pg_authid.h"
#include "catalog/pg_foreign_server.h"
#include "commands/defrem.h"
#include "compat.h"
#include "foreign/foreign.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "sink/redis_options.h"
#include "sink/sink.h"
#include "utils/acl.h"
#include "utils/syscache.h"

#include <sys/un.h>

#define REDIS_WRAPPER "profile_stream_redis"
#define DEFAULT_PORT 6379
#define REDIS_HINT "redis is a host:port, the absolute path of a socket, or a server of CREATE SERVER ... FOREIGN DATA WRAPPER " REDIS_WRAPPER "."

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

/* What the value of an option is. */
typedef enum OptionKind
{
	REDIS_TEXT,
	REDIS_PORT,
	REDIS_DATABASE,
	REDIS_SOCKET,
	REDIS_FILE,
	REDIS_SSLMODE,
	REDIS_SENTINELS
} OptionKind;

typedef struct RedisOption
{
	const char *name;
	bool		in_mapping;
	OptionKind	kind;
	size_t		offset;			/* of the field in PsRedisTarget; of sentinels they are several */
} RedisOption;

#define FIELD(field) offsetof(PsRedisTarget, field)

/* All options of servers and of user mappings. */
static const RedisOption redis_options[] = {
	{"host", false, REDIS_TEXT, FIELD(host)},
	{"port", false, REDIS_PORT, FIELD(port)},
	{"unix_socket", false, REDIS_SOCKET, FIELD(unix_socket)},
	{"sentinels", false, REDIS_SENTINELS, FIELD(sentinels)},
	{"sentinel_service", false, REDIS_TEXT, FIELD(sentinel_service)},
	{"database", false, REDIS_DATABASE, FIELD(database)},
	{"sslmode", false, REDIS_SSLMODE, FIELD(sslmode)},
	{"sslrootcert", false, REDIS_FILE, FIELD(sslrootcert)},
	{"sslcert", false, REDIS_FILE, FIELD(sslcert)},
	{"sslkey", false, REDIS_FILE, FIELD(sslkey)},
	{"sslservername", false, REDIS_TEXT, FIELD(sslservername)},
	{"username", true, REDIS_TEXT, FIELD(username)},
	{"password", true, REDIS_TEXT, FIELD(password)},
	{"sentinel_username", true, REDIS_TEXT, FIELD(sentinel_username)},
	{"sentinel_password", true, REDIS_TEXT, FIELD(sentinel_password)}
};

static const char *const sslmodes[] = {
	[PS_SSL_DISABLE] = "disable",
	[PS_SSL_REQUIRE] = "require",
	[PS_SSL_VERIFY_CA] = "verify-ca",
	[PS_SSL_VERIFY_FULL] = "verify-full"
};

static const RedisOption *
redis_find_option(const char *name)
{
	for (int i = 0; i < lengthof(redis_options); i++)
		if (strcmp(redis_options[i].name, name) == 0)
			return &redis_options[i];
	return NULL;
}

/* Names of the options of servers, or of user mappings, for a hint. */
static const char *
list_options(bool in_mapping)
{
	StringInfoData list;

	initStringInfo(&list);
	for (int i = 0; i < lengthof(redis_options); i++)
		if (redis_options[i].in_mapping == in_mapping)
			appendStringInfo(&list, "%s%s", list.len > 0 ? ", " : "", redis_options[i].name);
	return list.data;
}

/* The mode of a word; -1: there is none. */
static int
read_sslmode(const char *word)
{
	for (int mode = 0; mode < lengthof(sslmodes); mode++)
		if (strcmp(sslmodes[mode], word) == 0)
			return mode;
	return -1;
}

/* Reads "host:port" or "[host]:port"; false: it is neither. */
static bool
read_address(const char *text, PsRedisAddress *address)
{
	char	   *host = pstrdup(text);
	char	   *colon = strrchr(host, ':');

	if (colon == NULL)
		return false;
	*colon = '\0';
	if (host[0] == '[' && colon > host + 1 && colon[-1] == ']')
	{
		colon[-1] = '\0';		/* [::1]:6379 */
		host++;
	}
	address->host = host;
	address->port = redis_options_read_number(colon + 1, 1, 65535);
	return host[0] != '\0' && strchr(host, '/') == NULL && address->port > 0;
}

/* Reads addresses separated by commas; returns how many, 0: the text is wrong. */
static int
read_addresses(const char *text, PsRedisAddress *addresses)
{
	char	   *rest = pstrdup(text);
	int			n = 0;

	for (char *word = strtok_r(rest, ", ", &rest); word != NULL; word = strtok_r(NULL, ", ", &rest))
		if (n == PS_MAX_SENTINELS || !read_address(word, &addresses[n++]))
			return 0;
	return n;
}

static void
check_socket(const RedisOption *option, Oid role)
{
	if (!superuser_arg(role))
		redis_options_refuse(ERRCODE_INSUFFICIENT_PRIVILEGE, "permission denied to set option \"%s\"", option->name,
							 "Sockets in the server's file system are for superusers.");
}

static void
check_file(const RedisOption *option, Oid role)
{
	if (!superuser_arg(role) && !has_privs_of_role(role, ROLE_PG_READ_SERVER_FILES))
		redis_options_refuse(ERRCODE_INSUFFICIENT_PRIVILEGE, "permission denied to set option \"%s\"", option->name,
							 "Files of the server are for members of pg_read_server_files.");
}

static void
check_sslmode(const char *value)
{
#ifndef PS_TLS
	if (read_sslmode(value) > PS_SSL_DISABLE)
		redis_options_refuse(ERRCODE_FEATURE_NOT_SUPPORTED, "this build of profile_stream has no TLS for Redis, so that \"%s\" must be disable", "sslmode",
							 "Install the headers of OpenSSL (in Debian libssl-dev) and build again with WITH_TLS=yes, or use a unix socket or a local tunnel.");
#endif
}

/* What is wrong with a value, NULL: nothing. Raises where the role may not set it. */
static const char *
find_invalid(const RedisOption *option, const char *value, Oid role)
{
	PsRedisAddress addresses[PS_MAX_SENTINELS];

	switch (option->kind)
	{
		case REDIS_PORT:
			return redis_options_read_number(value, 1, 65535) < 0 ? "It must be 1 to 65535." : NULL;
		case REDIS_DATABASE:
			return redis_options_read_number(value, 0, PG_INT16_MAX) < 0 ? "It must be the number of a database of that Redis." : NULL;
		case REDIS_SOCKET:
			check_socket(option, role);
			return *value != '/' || strlen(value) >= sizeof(((struct sockaddr_un *) NULL)->sun_path)
				? "It must be an absolute path that a socket can have." : NULL;
		case REDIS_FILE:
			check_file(option, role);
			return *value != '/' ? "It must be an absolute path." : NULL;
		case REDIS_SSLMODE:
			check_sslmode(value);
			return read_sslmode(value) < 0 ? "It must be disable, require, verify-ca or verify-full." : NULL;
		case REDIS_SENTINELS:
			return read_addresses(value, addresses) == 0 ? "It must be 1 to 16 addresses host:port, separated by commas." : NULL;
		case REDIS_TEXT:
			break;
	}
	return *value == '\0' ? "It must not be empty." : NULL;
}

void
ps_redis_check_option(const char *name, const char *value, bool in_mapping, Oid role)
{
	const RedisOption *option = redis_find_option(name);
	const char *invalid;

	if (option == NULL || option->in_mapping != in_mapping)
		redis_options_refuse(ERRCODE_FDW_INVALID_OPTION_NAME, "option \"%s\" is not allowed here", name,
							 in_mapping ? psprintf("A user mapping has %s.", list_options(true)) :
							 option != NULL ? "Keep it in a user mapping: CREATE USER MAPPING ... OPTIONS (...)." :
							 psprintf("A server has %s.", list_options(false)));
	invalid = find_invalid(option, value, role);
	if (invalid != NULL)
		redis_options_refuse(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE, "invalid value for option \"%s\"", name, invalid);
}

static bool
has_option(List *options, const char *name)
{
	ListCell   *cell;

	foreach(cell, options)
	{
		if (strcmp(((DefElem *) lfirst(cell))->defname, name) == 0)
			return true;
	}
	return false;
}

void
ps_redis_check_server(List *options)
{
	int			addresses = has_option(options, "host") + has_option(options, "unix_socket") + has_option(options, "sentinels");

	if (addresses != 1)
		redis_options_refuse(ERRCODE_FDW_DYNAMIC_PARAMETER_VALUE_NEEDED, "one of the options %s is required", "\"host\", \"unix_socket\" and \"sentinels\"",
							 "For example: CREATE SERVER ... OPTIONS (host 'localhost', port '6379').");
	if (has_option(options, "sentinels") != has_option(options, "sentinel_service"))
		redis_options_refuse(ERRCODE_FDW_DYNAMIC_PARAMETER_VALUE_NEEDED, "option \"%s\" goes with sentinels", "sentinel_service",
							 "It is the name that the Sentinels have for the primary, as mymaster.");
	if (has_option(options, "sslcert") != has_option(options, "sslkey"))
		redis_options_refuse(ERRCODE_FDW_DYNAMIC_PARAMETER_VALUE_NEEDED, "option \"%s\" goes with sslkey", "sslcert",
							 "A client certificate has a key.");
}

/* Copies options into the target. */
static void
redis_take_options(PsRedisTarget *target, List *options, bool in_mapping, Oid role)
{
	ListCell   *cell;

	foreach(cell, options)
	{
		DefElem    *def = lfirst(cell);
		const char *value = defGetString(def);
		const RedisOption *option = redis_find_option(def->defname);
		void	   *field;

		ps_redis_check_option(def->defname, value, in_mapping, role);
		field = (char *) target + option->offset;
		switch (option->kind)
		{
			case REDIS_PORT:
			case REDIS_DATABASE:
				*(int *) field = atoi(value);
				break;
			case REDIS_SSLMODE:
				target->sslmode = read_sslmode(value);
				break;
			case REDIS_SENTINELS:
				target->nsentinels = read_addresses(value, target->sentinels);
				break;
			case REDIS_TEXT:
			case REDIS_SOCKET:
			case REDIS_FILE:
				*(const char **) field = pstrdup(value);
				break;
		}
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
				 errhint(REDIS_HINT " If the server was renamed, alter_stream() gives the stream its new name.")));
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
	const char *colon = strrchr(redis, ':');
	PsRedisAddress address;

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
		target->unix_socket = pstrdup(redis);
		return target;
	}
	ps_redis_check_option("port", colon + 1, false, role);
	if (!read_address(redis, &address))
		redis_options_refuse(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE, "invalid value for option \"%s\"", "redis", REDIS_HINT);
	target->host = address.host;
	target->port = address.port;
	return target;
}

void
ps_redis_sink_check(const PsStream *stream, PsSinkKind kind, Oid role)
{
	(void) ps_redis_target(stream->sinks[kind], role);
}

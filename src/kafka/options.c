/*
 * options.c
 *	  Gathers the options of a Kafka client. create_stream() calls it too, so that wrong
 *	  options are refused at once.
 */
#include "postgres.h"

#include "catalog/pg_foreign_server.h"
#include "commands/defrem.h"
#include "compat.h"
#include "foreign/foreign.h"
#include "kafka/client.h"
#include "kafka/options.h"
#include "kafka/secret_file.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/syscache.h"

#define KAFKA_WRAPPER "profile_stream_kafka"

/* Adds the options of a server or user mapping. bootstrap_servers has underscores, all others are librdkafka's names. */
static List *
add_defelems(List *result, List *defelems, PsOptionPlace place, Oid role)
{
	ListCell   *cell;

	foreach(cell, defelems)
	{
		DefElem    *def = lfirst(cell);
		const char *name = strcmp(def->defname, "bootstrap_servers") == 0 ? "bootstrap.servers" : def->defname;

		ps_kafka_check_option(name, defGetString(def), place, role);
		result = ps_kafka_add_option(result, name, defGetString(def));
	}
	return result;
}

/* Whether a server has secrets of its own, in files. */
static bool
reads_files(const ForeignServer *server)
{
	ListCell   *cell;

	foreach(cell, server->options)
	{
		if (ps_secret_in_file(((DefElem *) lfirst(cell))->defname))
			return true;
	}
	return false;
}

/* Adds the members of the argument options. */
static List *
add_jsonb(List *result, Jsonb *options, PsOptionPlace place, Oid role)
{
	JsonbIterator *it = JsonbIteratorInit(&options->root);
	JsonbValue	value;
	JsonbIteratorToken token;
	char	   *name = NULL;

	if (!JB_ROOT_IS_OBJECT(options))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("options must be a JSON object of librdkafka options, such as {\"fetch.wait.max.ms\": 10}")));
	while ((token = JsonbIteratorNext(&it, &value, true)) != WJB_DONE)
	{
		char	   *option;

		if (token == WJB_KEY)
			name = pnstrdup(value.val.string.val, value.val.string.len);
		if (token != WJB_VALUE)
			continue;
		if (value.type == jbvString)
			option = pnstrdup(value.val.string.val, value.val.string.len);
		else if (value.type == jbvBool)
			option = pstrdup(value.val.boolean ? "true" : "false");
		else if (value.type == jbvNumeric)
			option = DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(value.val.numeric)));
		else
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("option \"%s\" must be a string, number or boolean", name)));
		ps_kafka_check_option(name, option, place, role);
		result = ps_kafka_add_option(result, name, option);
	}
	return result;
}

static ForeignServer *
find_server(const char *name)
{
	ForeignServer *server = GetForeignServerByName(name, true);

	if (server == NULL || strcmp(GetForeignDataWrapper(server->fdwid)->fdwname, KAFKA_WRAPPER) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg(server == NULL ? "server \"%s\" does not exist" : "server \"%s\" is not a Kafka server", name),
				 errhint("CREATE SERVER ... FOREIGN DATA WRAPPER " KAFKA_WRAPPER " makes one. If it was renamed, alter_stream() gives the stream its new name.")));
	return server;
}

List *
ps_connection_options(const char *server, const char *bootstrap_servers, Jsonb *options, Oid role)
{
	List	   *result = NIL;

	if (server != NULL)
	{
		ForeignServer *foreign_server = find_server(server);

		if (ps_server_aclcheck(foreign_server->serverid, role, ACL_USAGE) != ACLCHECK_OK)
			aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_FOREIGN_SERVER, server);
		result = add_defelems(result, foreign_server->options, PS_OPTION_SERVER, foreign_server->owner);
		if (SearchSysCacheExists2(USERMAPPINGUSERSERVER, ObjectIdGetDatum(role),
								  ObjectIdGetDatum(foreign_server->serverid)) ||
			SearchSysCacheExists2(USERMAPPINGUSERSERVER, ObjectIdGetDatum(InvalidOid),
								  ObjectIdGetDatum(foreign_server->serverid)))
			result = add_defelems(result, GetUserMapping(role, foreign_server->serverid)->options,
								  reads_files(foreign_server) ? PS_OPTION_FILES_MAPPING : PS_OPTION_USER_MAPPING, role);
	}
	else
	{
		if (!superuser_arg(role))
			ereport(ERROR,
					(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
					 errmsg("permission denied to name brokers"),
					 errhint("Use server => ... with a server that a superuser has created and granted USAGE on.")));
		ps_kafka_check_brokers(bootstrap_servers);
		result = ps_kafka_add_option(result, "bootstrap.servers", bootstrap_servers);
	}
	result = add_jsonb(result, options, server != NULL ? PS_OPTION_SERVERS_STREAM : PS_OPTION_STREAM, role);
	return ps_secret_files_read(result);
}

/*
 * server_options.c
 *	  Validators of the foreign-data wrappers profile_stream_kafka and
 *	  profile_stream_redis. Their servers have addresses, their user mappings logins.
 */
#include "postgres.h"

#include "access/reloptions.h"
#include "catalog/pg_foreign_server.h"
#include "catalog/pg_user_mapping.h"
#include "commands/defrem.h"
#include "fmgr.h"
#include "kafka/client.h"
#include "miscadmin.h"
#include "sink/redis_options.h"

PG_FUNCTION_INFO_V1(ps_kafka_validator);
Datum
ps_kafka_validator(PG_FUNCTION_ARGS)
{
	List	   *options = untransformRelOptions(PG_GETARG_DATUM(0));
	Oid			catalog = PG_GETARG_OID(1);
	bool		has_brokers = false;
	List	   *values = NIL;
	ListCell   *cell;

	foreach(cell, options)
	{
		DefElem    *def = lfirst(cell);
		const char *name = def->defname;

		if (catalog == ForeignServerRelationId && strcmp(name, "bootstrap_servers") == 0)
		{
			has_brokers = true;
			ps_kafka_check_brokers(defGetString(def));
			continue;
		}
		if (catalog != ForeignServerRelationId && catalog != UserMappingRelationId)
			ereport(ERROR,
					(errcode(ERRCODE_FDW_INVALID_OPTION_NAME),
					 errmsg("option \"%s\" is not allowed here", name),
					 errhint("Options belong to servers and user mappings.")));
		ps_kafka_check_option(name, defGetString(def),
							  catalog == ForeignServerRelationId ? PS_OPTION_SERVER : PS_OPTION_USER_MAPPING,
							  GetUserId());
		values = ps_kafka_add_option(values, name, defGetString(def));
		has_brokers |= strcmp(name, "bootstrap.servers") == 0;
	}
	if (catalog == ForeignServerRelationId && !has_brokers)
		ereport(ERROR,
				(errcode(ERRCODE_FDW_DYNAMIC_PARAMETER_VALUE_NEEDED),
				 errmsg("option \"bootstrap_servers\" is required"),
				 errhint("CREATE SERVER ... OPTIONS (bootstrap_servers 'host:9092').")));
	ps_kafka_check_values(values);
	PG_RETURN_VOID();
}

PG_FUNCTION_INFO_V1(ps_redis_validator);
Datum
ps_redis_validator(PG_FUNCTION_ARGS)
{
	List	   *options = untransformRelOptions(PG_GETARG_DATUM(0));
	Oid			catalog = PG_GETARG_OID(1);
	ListCell   *cell;

	foreach(cell, options)
	{
		DefElem    *def = lfirst(cell);

		if (catalog != ForeignServerRelationId && catalog != UserMappingRelationId)
			ereport(ERROR,
					(errcode(ERRCODE_FDW_INVALID_OPTION_NAME),
					 errmsg("option \"%s\" is not allowed here", def->defname),
					 errhint("Options belong to servers and user mappings.")));
		ps_redis_check_option(def->defname, defGetString(def), catalog == UserMappingRelationId, GetUserId());
	}
	if (catalog == ForeignServerRelationId)
		ps_redis_check_server(options);
	PG_RETURN_VOID();
}

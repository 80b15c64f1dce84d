/*
 * version.c
 *	  Versions of the extension and its libraries, for operators and for the views that
 *	  show streams.
 */
#include "postgres.h"

#include "fmgr.h"
#include "kafka/client.h"
#include "lib/stringinfo.h"
#include "settings.h"
#include "store/extension.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/json.h"
#include "utils/jsonb.h"

#ifdef PS_HIREDIS
#define HIREDIS PS_HIREDIS
#else
#define HIREDIS NULL
#endif

/* Adds a member to the object; NULL becomes null. */
static void
version_add(StringInfo json, const char *name, const char *value)
{
	appendStringInfo(json, "%s\"%s\": ", json->len > 1 ? ", " : "", name);
	if (value == NULL)
		appendStringInfoString(json, "null");
	else
		escape_json(json, value);
}

/* Versions of what is installed and of what runs. They differ after an upgrade until the server restarts. */
PG_FUNCTION_INFO_V1(ps_version);
Datum
ps_version(PG_FUNCTION_ARGS)
{
	StringInfoData json;

	initStringInfo(&json);
	appendStringInfoChar(&json, '{');
	version_add(&json, "extension", ps_extension_version());
	version_add(&json, "library", PS_VERSION);
	version_add(&json, "postgresql", GetConfigOption("server_version", false, false));
	version_add(&json, "librdkafka", ps_kafka_version());
	version_add(&json, "librdkafkaBuilt", ps_kafka_version_built());
	version_add(&json, "hiredis", HIREDIS);
	version_add(&json, "warning", ps_kafka_version_warning(ps_kafka_version()));
	appendStringInfoChar(&json, '}');
	return DirectFunctionCall1(jsonb_in, CStringGetDatum(json.data));
}

/* A known fault of a version of librdkafka. stat_streams shows it as a hint. */
PG_FUNCTION_INFO_V1(ps_library_warning);
Datum
ps_library_warning(PG_FUNCTION_ARGS)
{
	const char *version = PG_ARGISNULL(0) ? ps_kafka_version() : text_to_cstring(PG_GETARG_TEXT_PP(0));
	char	   *warning = ps_kafka_version_warning(version);

	if (warning == NULL)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(warning));
}

/* The name by which a copy of this server can be told from it: a copy must not run the streams too. */
PG_FUNCTION_INFO_V1(ps_current_cluster);
Datum
ps_current_cluster(PG_FUNCTION_ARGS)
{
	PG_RETURN_TEXT_P(cstring_to_text(ps_cluster_here()));
}

/*
 * profile_stream.c
 *	  Called by the server when it loads the library.
 */
#include "postgres.h"

#include "core/keyed_hash.h"
#include "fmgr.h"
#include "ingest/launcher.h"
#include "kafka/client.h"
#include "miscadmin.h"
#include "settings.h"
#include "store/resolve.h"
#include "store/served.h"
#include "store/user_code.h"

PG_MODULE_MAGIC;

void		_PG_init(void);

/* Warns at the start of the server of known faults of its librdkafka. */
static void
warn_of_library(void)
{
	char	   *warning = ps_kafka_version_warning(ps_kafka_version());

	if (warning != NULL && process_shared_preload_libraries_in_progress)
		ereport(WARNING,
				(errcode(ERRCODE_WARNING),
				 errmsg("librdkafka %s has known faults", ps_kafka_version()),
				 errdetail("%s", warning)));
}

void
_PG_init(void)
{
	if (!pg_strong_random(&ps_table_key, sizeof(ps_table_key)))
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("could not generate random values")));
	ps_settings_define();
	ps_user_code_init();
	ps_resolve_init();
	ps_served_init();
	warn_of_library();
	ps_launcher_register();
}

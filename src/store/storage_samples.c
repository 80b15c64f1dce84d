/*
 * storage_samples.c
 *	  The SQL of storage_samples.
 */
#include "postgres.h"

#include "store/plan.h"
#include "store/storage_samples.h"

#define NOT_WITHIN_HOUR \
	"NOT EXISTS (SELECT FROM profile_stream_internal.storage_samples y WHERE y.sampled_at > pg_catalog.now() - '1 hour'::interval)"

/* a sample of the future is from before the clock was set back */
static PsPlan sample_plan = {
	"WITH d AS (DELETE FROM profile_stream_internal.storage_samples x WHERE x.sampled_at < pg_catalog.now() - '7 days'::interval"
	" OR x.sampled_at > pg_catalog.now() + '1 hour'::interval)"
	" INSERT INTO profile_stream_internal.storage_samples (sampled_at, schema, \"table\", bytes)"
	" SELECT pg_catalog.now(), s.schema, s.\"table\", s.table_bytes + s.index_bytes FROM profile_stream.stat_storage s"
	" WHERE s.table_bytes IS NOT NULL AND " NOT_WITHIN_HOUR
	" UNION ALL SELECT pg_catalog.now(), 'file system', d.holds, d.bytes - d.free_bytes FROM profile_stream_internal.file_systems() d WHERE " NOT_WITHIN_HOUR,
	0, {0},.fixed_schema = true
};

void
ps_storage_sample(void)
{
	(void) ps_plan_run(&sample_plan, NULL, NULL, SPI_OK_INSERT);
}

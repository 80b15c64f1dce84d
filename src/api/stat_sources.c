/*
 * stat_sources.c
 *	  Counts of events by source in the rows of stream_offsets: adds those of a batch,
 *	  and shows them to stat_sources.
 */
#include "postgres.h"

#include "compat.h"
#include "core/source_counts.h"
#include "fmgr.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

static void
load_counts(PsSourceCounts *counts, const bytea *packed)
{
	if (!ps_source_counts_load(counts, VARDATA_ANY(packed), VARSIZE_ANY_EXHDR(packed)))
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("counts of sources are damaged")));
}

PG_FUNCTION_INFO_V1(ps_add_sources);
Datum
ps_add_sources(PG_FUNCTION_ARGS)
{
	PsSourceCounts counts = {0};

	load_counts(&counts, PG_GETARG_BYTEA_PP(0));
	load_counts(&counts, PG_GETARG_BYTEA_PP(1));
	PG_RETURN_BYTEA_P(ps_source_counts_save(&counts));
}

PG_FUNCTION_INFO_V1(ps_source_counts);
Datum
ps_source_counts(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	PsSourceCounts counts = {0};

	load_counts(&counts, PG_GETARG_BYTEA_PP(0));
	InitMaterializedSRF(fcinfo, 0);
	for (int i = 0; i < counts.n; i++)
	{
		const PsSourceCount *count = &counts.counts[i];
		Datum		values[3] = {0, Int64GetDatum(count->applied), TimestampTzGetDatum(count->last_event_at)};
		bool		nulls[3] = {count->len == 0, false, false};

		(void) pg_verifymbstr(count->source, count->len, false);
		if (count->len > 0)
			values[0] = PointerGetDatum(cstring_to_text_with_len(count->source, count->len));
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}

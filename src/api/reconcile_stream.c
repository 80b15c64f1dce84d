/*
 * reconcile_stream.c
 *	  reconcile(): shows a stream's books, with the caller's rights.
 */
#include "postgres.h"

#include "api/caller.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "store/reconcile.h"

PG_FUNCTION_INFO_V1(ps_reconcile);
Datum
ps_reconcile(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	PsStream   *stream;
	uint64		n;

	InitMaterializedSRF(fcinfo, 0);
	SPI_connect();
	stream = ps_find_stream(PG_GETARG_TEXT_PP(0), false);
	n = ps_reconcile_select(stream->stream_id);
	for (uint64 i = 0; i < n; i++)
		tuplestore_puttuple(rsinfo->setResult, SPI_tuptable->vals[i]);
	SPI_finish();
	return (Datum) 0;
}

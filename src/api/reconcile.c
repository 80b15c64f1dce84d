/*
 * reconcile.c
 *	  reconcile(): shows a stream's books, with the caller's rights.
 */
#include "postgres.h"

#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "store/accounts.h"
#include "store/stream_catalog.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(ps_reconcile);
Datum
ps_reconcile(PG_FUNCTION_ARGS)
{
	char	   *name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	PsStream   *stream;
	uint64		n;

	InitMaterializedSRF(fcinfo, 0);
	SPI_connect();
	stream = ps_stream_find(name, 0);
	if (stream == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("stream \"%s\" does not exist", name),
				 errhint("SELECT stream FROM profile_stream.stat_streams shows which there are.")));
	n = ps_accounts_select(stream->stream_id);
	for (uint64 i = 0; i < n; i++)
		tuplestore_puttuple(rsinfo->setResult, SPI_tuptable->vals[i]);
	SPI_finish();
	return (Datum) 0;
}

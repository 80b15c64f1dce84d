/*
 * masked.c
 *	  What masked_profiles shows instead of names and addresses. It runs with the rights of
 *	  its owner, so that who may see the masked text needs no right on the whole one.
 */
#include "postgres.h"

#include "executor/spi.h"
#include "fmgr.h"
#include "store/extension.h"
#include "store/profile_reader.h"
#include "utils/builtins.h"

PS_FUNCTION(ps_masked);
static Datum
ps_masked_checked(PG_FUNCTION_ARGS)
{
	MemoryContext caller = CurrentMemoryContext;
	MemoryContext spi;
	char	   *masked;
	text	   *result = NULL;

	SPI_connect();
	masked = ps_profile_masked_read(PG_GETARG_DATUM(0), PG_GETARG_DATUM(1));
	spi = MemoryContextSwitchTo(caller);
	if (masked != NULL)
		result = cstring_to_text(masked);
	MemoryContextSwitchTo(spi);
	SPI_finish();
	if (result == NULL)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(result);
}

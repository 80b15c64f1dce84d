/*
 * parser_fuzz.c
 *	  parser_fuzz(): damaged bytes for the parsers beside the decoder; for tests.
 */
#include "postgres.h"

#include "core/fuzz.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/memutils.h"

PG_FUNCTION_INFO_V1(ps_parser_fuzz);
Datum
ps_parser_fuzz(PG_FUNCTION_ARGS)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "profile_stream parser_fuzz", ALLOCSET_DEFAULT_SIZES);
	MemoryContext outer = MemoryContextSwitchTo(context);
	pg_prng_state prng;

	pg_prng_seed(&prng, (uint64) PG_GETARG_INT32(0));
	for (int32 i = PG_GETARG_INT32(1); i > 0; i--)
	{
		const char *wrong = ps_fuzz_parsers(&prng);

		CHECK_FOR_INTERRUPTS();
		if (wrong != NULL)
			elog(ERROR, "parser_fuzz: %s does not hold", wrong);
		MemoryContextReset(context);
	}
	MemoryContextSwitchTo(outer);
	MemoryContextDelete(context);
	PG_RETURN_VOID();
}

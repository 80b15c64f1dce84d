/*
 * percentile.c
 *	  Percentiles as percentile_cont() interpolates, but in numeric.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "compat.h"
#include "core/numeric_call.h"
#include "core/percentile.h"
#include "fmgr.h"
#include "utils/fmgrprotos.h"
#include "utils/typcache.h"

#define FEW_NUMBERS 1024		/* most windows have fewer samples, for which a sort costs more than it sorts */

/* Gives a number to the sort, which copies it. */
static void
sort_add(PsPercentile *percentile, Numeric number)
{
	tuplesort_putdatum(percentile->sort, NumericGetDatum(number), false);
	pfree(number);
}

/* Begins the sort with the numbers that are there. */
static void
begin_sort(PsPercentile *percentile)
{
	TypeCacheEntry *type = lookup_type_cache(NUMERICOID, TYPECACHE_LT_OPR);

	percentile->sort = tuplesort_begin_datum(NUMERICOID, type->lt_opr, InvalidOid, false, percentile->memory_kb, NULL, TUPLESORT_NONE);
	for (int i = 0; i < FEW_NUMBERS; i++)
		sort_add(percentile, percentile->few[i]);
	pfree(percentile->few);
	percentile->few = NULL;
}

void
ps_percentile_add(PsPercentile *percentile, Numeric number)
{
	if (percentile->count == 0)
		percentile->few = palloc(FEW_NUMBERS * sizeof(Numeric));
	if (percentile->count == FEW_NUMBERS)
		begin_sort(percentile);
	if (percentile->sort != NULL)
		sort_add(percentile, number);
	else
		percentile->few[percentile->count] = number;
	percentile->count++;
}

static int
percentile_compare(const void *a, const void *b)
{
	return ps_numeric_compare(*(const Numeric *) a, *(const Numeric *) b);
}

/* Takes the number at a place of the sorted ones, and the next one, if there is one. */
static void
take_neighbours(PsPercentile *percentile, int64 place, Numeric *number, Numeric *next)
{
	bool		has_next = place + 1 < percentile->count;
	Datum		datum;

	if (percentile->sort == NULL)
	{
		qsort(percentile->few, percentile->count, sizeof(Numeric), percentile_compare);
		*number = percentile->few[place];
		*next = has_next ? percentile->few[place + 1] : NULL;
		return;
	}
	tuplesort_performsort(percentile->sort);
	if (!tuplesort_skiptuples(percentile->sort, place, true) || !ps_tuplesort_getdatum(percentile->sort, &datum))
		elog(ERROR, "a sort of " INT64_FORMAT " numbers ends before number " INT64_FORMAT, percentile->count, place);
	*number = DatumGetNumeric(datum);
	*next = has_next && ps_tuplesort_getdatum(percentile->sort, &datum) ? DatumGetNumeric(datum) : NULL;
	tuplesort_end(percentile->sort);
	percentile->sort = NULL;
	percentile->count = 0;
}

Numeric
ps_percentile_result(PsPercentile *percentile, Numeric fraction)
{
	Numeric		place;
	Numeric		rest;
	Numeric		number;
	Numeric		next;
	int64		before;

	if (percentile->count == 0)
		return NULL;
	place = ps_numeric_call(numeric_mul, fraction, int64_to_numeric(percentile->count - 1));
	before = DatumGetInt64(DirectFunctionCall1(numeric_int8, DirectFunctionCall1(numeric_floor, NumericGetDatum(place))));
	rest = ps_numeric_call(numeric_sub, place, int64_to_numeric(before));
	take_neighbours(percentile, before, &number, &next);
	if (next == NULL ||
		ps_numeric_compare(rest, int64_to_numeric(0)) == 0)
		return number;
	rest = ps_numeric_call(numeric_mul, ps_numeric_call(numeric_sub, next, number), rest);
	return DatumGetNumeric(DirectFunctionCall1(numeric_trim_scale, NumericGetDatum(ps_numeric_call(numeric_add, number, rest))));
}

/*
 * numeric_call.h
 * Calls functions of PostgreSQL that take two numerics.
 */
#ifndef PS_NUMERIC_CALL_H
#define PS_NUMERIC_CALL_H

#include "fmgr.h"
#include "utils/fmgrprotos.h"
#include "utils/numeric.h"

/* The result of a function such as numeric_add(). */
static inline Numeric
ps_numeric_call(PGFunction function, Numeric a, Numeric b)
{
	return DatumGetNumeric(DirectFunctionCall2(function, NumericGetDatum(a), NumericGetDatum(b)));
}

/* Orders two numerics as strcmp() orders texts. */
static inline int
ps_numeric_compare(Numeric a, Numeric b)
{
	return DatumGetInt32(DirectFunctionCall2(numeric_cmp, NumericGetDatum(a), NumericGetDatum(b)));
}

#endif							/* PS_NUMERIC_CALL_H */

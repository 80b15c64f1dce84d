/*
 * live_program.h
 *	  The parts of a compiled predicate: live_predicate.c makes them, live_value.c
 *	  evaluates them. All that a predicate takes from a profile or from the time is a
 *	  parameter, whose value is computed when it is asked for.
 */
#ifndef PS_LIVE_PROGRAM_H
#define PS_LIVE_PROGRAM_H

#include "executor/executor.h"
#include "nodes/pg_list.h"
#include "store/live_predicate.h"

typedef enum PsLiveParamKind
{
	PS_LIVE_NOW,
	PS_LIVE_CUSTOMER_ID,
	PS_LIVE_COLUMN,				/* of the profile in memory */
	PS_LIVE_BATCH_COLUMN,		/* of its row, which events do not change */
	PS_LIVE_METRIC,
	PS_LIVE_OTHER,				/* the side of an atom that does not change with time */
	PS_LIVE_ATOM
} PsLiveParamKind;

/* A metric of the customer, read once for all predicates. */
typedef struct PsLiveMetric
{
	PsMetric	metric;
	uint64		row;			/* for which the rest was computed */
	Numeric		value;			/* NULL: none; of a count it is not computed */
	int64		count;			/* of a count */
	TimestampTz leaves_at;		/* when the oldest sample leaves the window; DT_NOEND: there is none */
	TimestampTz enters_at;		/* when one enters that has a time in the future; DT_NOEND: there is none */
	bool		is_open;		/* all its samples are in the row */
	bool		falls;			/* with time alone it can only become less */
} PsLiveMetric;

/* How the next change of an atom is found. T is the moment that is computed of its sides. */
typedef enum PsLiveAtomKind
{
	PS_LIVE_AT_MOMENT,			/* now() is before, at or behind T */
	PS_LIVE_AT_DAY,				/* the day of now() is before, at or behind that of T */
	PS_LIVE_BY_SEARCH,			/* by halving: the sides are monotone in time */
	PS_LIVE_BY_SAMPLES			/* when samples leave the window of a metric */
} PsLiveAtomKind;

typedef struct PsLiveAtom
{
	PsLiveAtomKind kind;
	Expr	   *comparison;		/* of the side that changes with time and a parameter PS_LIVE_OTHER */
	Expr	   *other;			/* the value of that parameter */
	Oid			other_type;
	Expr	   *start;			/* of now() - start: it is added to T; NULL: none */
	int64		offset;			/* of now() + offset, in microseconds or days: it is subtracted from T */
	PsLiveMetric *metric;
	ExprState  *comparison_state;
	ExprState  *other_state;
	ExprState  *start_state;
	Datum		value;			/* of other */
	bool		is_null;
} PsLiveAtom;

typedef struct PsLiveParam
{
	PsLiveParamKind kind;
	int			column;			/* index in ps_profile_columns, or a PsRowColumn */
	Oid			type;
	PsLiveMetric *metric;
	bool		in_atom;		/* the atom finds out when the metric matters */
	PsLiveAtom *atom;
} PsLiveParam;

struct PsLivePredicate
{
	Expr	   *expr;
	List	   *params;			/* PsLiveParam; their places are the ids of Params. The first one is now() */
	bool		reads_samples;
	bool		reads_attributes;
	bool		reads_settings; /* its functions may depend on settings */
	ParamListInfo list;
	ExprState  *state;
};

#define PS_LIVE_NOW_PARAM 1

/* live_value.c: makes a Param of the expression call back; *params is the predicate's list */
extern void ps_live_param_compile(ParamListInfo list, Param *param, ExprState *state, Datum *value, bool *is_null);

#endif							/* PS_LIVE_PROGRAM_H */

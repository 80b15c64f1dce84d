/*
 * plan.h
 *	  Kept SPI plans, and the array arguments of statements for whole batches.
 */
#ifndef PS_PLAN_H
#define PS_PLAN_H

#include "postgres.h"

#include "core/filter.h"
#include "executor/spi.h"

#define PS_PLAN_MAX_ARGS 48

/* Stands in a statement for unnest($n), … of its arguments from first_array to the last: ROWS FROM (PS_PLAN_ARRAYS). */
#define PS_PLAN_ARRAYS "@arrays@"

typedef struct PsShardPlan PsShardPlan;

/* One statement of the store. It is a static variable, so that it is planned once a session. */
typedef struct PsPlan
{
	const char *sql;
	int			nargs;
	Oid			argtypes[PS_PLAN_MAX_ARGS];
	SPIPlanPtr	plan;
	bool		fixed_schema;	/* it means the tables that it names, also in a process that works on the rebuild
								 * schema */
	const char *only;			/* the only table that it touches; it runs even when another table has another owner */
	bool		latest;			/* reads by the active snapshot, also where the transaction has an older one */
	PsShardPlan *of_shards;		/* instead of plan, where it names a table that is distributed: one for each shard */
	int			first_array;	/* number of the first argument that PS_PLAN_ARRAYS unnests */
} PsPlan;

/* Runs a statement as the owner of the tables. Raises unless the result is as expected (SPI_OK_…). Returns the number of rows. */
extern uint64 ps_plan_run(PsPlan *plan, Datum *args, const char *nulls, int expected);

/* The same for a statement that must write nrows rows of a table; raises when a trigger, rule or policy left some out. */
extern void ps_plan_write(PsPlan *plan, Datum *args, const char *nulls, int expected, uint64 nrows, const char *table);

extern void ps_plan_complain(const char *table, uint64 missing, uint64 nrows);

/*
 * The same for a SELECT of a STABLE function: read-only, with the snapshot of the
 * calling query and the caller's rights. The caller needs no USAGE of the internal
 * schema, see resolve.c. No argument may be null.
 */
extern uint64 ps_plan_read(PsPlan *plan, Datum *args);

/* A value of the last result as text, in the current context; NULL when it is null. */
extern char *ps_plan_text(uint64 row, int column);

/* A value of the last result that is an array of texts, in the current context; empty when it is null. */
extern PsTextSet ps_plan_texts(uint64 row, int column);

/* A set as an array, and an array as a set. */
extern Datum ps_text_set_array(const PsTextSet *set);
extern PsTextSet ps_text_set_of_array(Datum array);

/* Runs a statement that returns one int8, and returns the number. */
extern int64 ps_plan_number(PsPlan *plan, Datum *args);

/*
 * Runs a statement that may read whole tables. It is planned each time, for the
 * tables as they are now, and its text is used unchanged. When it is read-only, it
 * has the caller's rights as in ps_plan_read(). Returns the number of rows.
 */
extern uint64 ps_plan_run_once(const char *sql, int nargs, const Oid *types, Datum *args, bool read_only);

/* The same with arguments that may be null. */
extern uint64 ps_plan_run_filtered(const char *sql, int nargs, const Oid *types, const Datum *args, const char *nulls, bool read_only);

/*
 * Raises unless the first n columns of the last result have these types. Without
 * this check a Datum of another type would be misread.
 */
extern void ps_plan_check_types(const Oid *types, int n);

/* Raises when one of n values is null that are written together, and which no constraint of the table holds together. */
extern void ps_plan_check_filled(const bool *nulls, int n, const char *what);

/* An array argument under construction. */
typedef struct PsColumn
{
	Oid			type;
	int			n;
	Datum	   *values;
	bool	   *nulls;
} PsColumn;

extern void ps_column_init(PsColumn *column, Oid type, int capacity);
extern void ps_column_add(PsColumn *column, Datum value);
extern void ps_column_add_null(PsColumn *column);
extern void ps_column_add_text(PsColumn *column, const char *text);
extern void ps_column_add_bytes(PsColumn *column, const char *bytes, int len);
extern void ps_column_add_time(PsColumn *column, TimestampTz at);
extern Datum ps_column_array(const PsColumn *column);

#endif							/* PS_PLAN_H */

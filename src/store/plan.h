/*
 * plan.h
 *	  Kept SPI plans, and the arrays that set-based statements take.
 */
#ifndef PS_PLAN_H
#define PS_PLAN_H

#include "postgres.h"

#include "executor/spi.h"

#define PS_PLAN_MAX_ARGS 48

/* One statement of the store; static, so that its plan is made once a session. */
typedef struct PsPlan
{
	const char *sql;
	int			nargs;
	Oid			argtypes[PS_PLAN_MAX_ARGS];
	SPIPlanPtr	plan;
	bool		fixed_schema;	/* means the tables it names, also in a process that works on the shadow */
	const char *only;			/* the only table that it touches, for what is written whatever the others are like */
} PsPlan;

/* Runs the statement as the owner of the tables; raises unless it ends as expected (SPI_OK_…). Returns the rows it touched. */
extern uint64 ps_plan_run(PsPlan *plan, Datum *args, const char *nulls, int expected);

/* The same for a statement that writes so many rows of a table; raises when a trigger, rule or policy keeps some back. */
extern void ps_plan_write(PsPlan *plan, Datum *args, const char *nulls, int expected, uint64 nrows, const char *table);

extern void ps_plan_complain(const char *table, uint64 missing, uint64 nrows);

/*
 * The same for a SELECT within a STABLE function: read-only, in the calling query's snapshot, with the caller's rights.
 * The caller needs no USAGE of the internal schema, see resolve.c. No argument may be null.
 */
extern uint64 ps_plan_read(PsPlan *plan, Datum *args);

/* A value of a row that the last statement returned, as text in the current context; NULL when null. */
extern char *ps_plan_text(uint64 row, int column);

/* Runs a statement that returns one int8, and returns that. */
extern int64 ps_plan_number(PsPlan *plan, Datum *args);

/*
 * Runs a statement that may read whole tables, as it is written: planned for what
 * they are now, and not kept. Read-only it is as ps_plan_read(), in rights too. Returns the rows it touched.
 */
extern uint64 ps_plan_run_once(const char *sql, int nargs, const Oid *types, Datum *args, bool read_only);

/* The same with arguments that may be null, as ps_plan_run() has them. */
extern uint64 ps_plan_run_filtered(const char *sql, int nargs, const Oid *types, const Datum *args, const char *nulls, bool read_only);

/*
 * Raises unless the first columns of what the last SELECT returned can be read
 * as these types: a Datum of another type would be misread, not refused.
 */
extern void ps_plan_check_types(const Oid *types, int n);

/* A column under construction: n values that become one array argument. */
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

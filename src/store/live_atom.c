/*
 * live_atom.c
 *	  Finds the atoms of a predicate: comparisons of which one side changes with time in
 *	  one direction, and the other does not. For these it is known when the result
 *	  changes. Any other use of the time keeps a predicate from being live.
 */
#include "postgres.h"

#include "access/stratnum.h"
#include "catalog/pg_type.h"
#include "compat.h"
#include "nodes/nodeFuncs.h"
#include "store/live_analysis.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#define MAX_INTERVAL_DAYS 10000000	/* so that days and time fit into 64 bits of microseconds */

/* Functions of which the result moves with an argument in one direction, in UTC. */
static const Oid monotone[] = {
	F_TIMESTAMPTZ_PL_INTERVAL, F_TIMESTAMPTZ_MI_INTERVAL, F_INTERVAL_PL_TIMESTAMPTZ, F_TIMESTAMPTZ_MI,
	F_DATE_PLI, F_DATE_MII, F_DATE_MI, F_INTEGER_PL_DATE, F_DATE_PL_INTERVAL, F_DATE_MI_INTERVAL,
	F_TIMESTAMP_PL_INTERVAL, F_TIMESTAMP_MI_INTERVAL, F_TIMESTAMP_MI,
	F_DATE_TIMESTAMPTZ, F_DATE_TIMESTAMP, F_TIMESTAMP_TIMESTAMPTZ, F_TIMESTAMP_DATE, F_TIMESTAMPTZ_TIMESTAMP, F_TIMESTAMPTZ_DATE,
	F_DATE_TRUNC_TEXT_TIMESTAMPTZ, F_DATE_TRUNC_TEXT_TIMESTAMP
};

/* How an expression changes with time alone. */
typedef enum Change
{
	NEVER,
	IN_ONE_DIRECTION,
	ANY
} Change;

Param *
ps_live_param_make(PsLiveAnalysis *analysis, PsLiveParam *param, Oid collation)
{
	Param	   *node = makeNode(Param);

	analysis->predicate->params = lappend(analysis->predicate->params, param);
	node->paramkind = PARAM_EXTERN;
	node->paramid = list_length(analysis->predicate->params);
	node->paramtype = param->type;
	node->paramtypmod = -1;
	node->paramcollid = collation;
	node->location = -1;
	return node;
}

static bool
is_now(const Node *node)
{
	return IsA(node, Param) && ((const Param *) node)->paramid == PS_LIVE_NOW_PARAM;
}

static bool
has_now_walker(Node *node, void *arg)
{
	if (node == NULL)
		return false;
	return is_now(node) || expression_tree_walker(node, has_now_walker, arg);
}

/* The function and arguments of a call or an operator; false for other expressions. */
static bool
get_call(const Node *node, Oid *function, List **args)
{
	if (IsA(node, FuncExpr))
	{
		*function = ((const FuncExpr *) node)->funcid;
		*args = ((const FuncExpr *) node)->args;
		return true;
	}
	if (!IsA(node, OpExpr))
		return false;
	*function = get_opcode(((const OpExpr *) node)->opno);
	*args = ((const OpExpr *) node)->args;
	return true;
}

static Change
change_of(Node *node)
{
	Oid			function;
	List	   *args;
	ListCell   *cell;
	Change		change = NEVER;

	if (!has_now_walker(node, NULL))
		return NEVER;
	if (is_now(node))
		return IN_ONE_DIRECTION;
	if (IsA(node, RelabelType))
		return change_of((Node *) ((RelabelType *) node)->arg);
	if (!get_call(node, &function, &args))
		return ANY;
	foreach(cell, args)
	{
		Change		more = change_of(lfirst(cell));

		if (more == NEVER)
			continue;
		change = change == NEVER ? more : ANY;
	}
	for (int i = 0; i < lengthof(monotone); i++)
		if (monotone[i] == function)
			return change;
	return ANY;
}

static bool
get_interval(Node *node, int64 *us)
{
	const Interval *interval;

	if (!IsA(node, Const) || ((Const *) node)->constisnull)
		return false;
	interval = DatumGetIntervalP(((Const *) node)->constvalue);
	if (interval->month != 0 || interval->day > MAX_INTERVAL_DAYS || interval->day < -MAX_INTERVAL_DAYS ||
		interval->time > PG_INT64_MAX / 4 || interval->time < -(PG_INT64_MAX / 4))
		return false;
	*us = interval->day * USECS_PER_DAY + interval->time;
	return true;
}

static bool
get_days(Node *node, int64 *days)
{
	if (!IsA(node, Const) || ((Const *) node)->constisnull || ((Const *) node)->consttype != INT4OID)
		return false;
	*days = DatumGetInt32(((Const *) node)->constvalue);
	return true;
}

/* now(), now() + a constant, or now() - something: then the moment of the change is computed at once. */
static bool
read_moment(Node *timed, PsLiveAtom *atom)
{
	Oid			function;
	List	   *args;

	atom->kind = PS_LIVE_AT_MOMENT;
	atom->offset = 0;
	if (is_now(timed))
		return atom->other_type == TIMESTAMPTZOID;
	if (!get_call(timed, &function, &args) || list_length(args) != 2)
		return false;
	if (function == F_TIMESTAMPTZ_MI && is_now(linitial(args)))
	{
		atom->start = lsecond(args);
		return atom->other_type == INTERVALOID;
	}
	if (atom->other_type != TIMESTAMPTZOID)
		return false;
	if (function == F_TIMESTAMPTZ_PL_INTERVAL && is_now(linitial(args)))
		return get_interval(lsecond(args), &atom->offset);
	if (function == F_INTERVAL_PL_TIMESTAMPTZ && is_now(lsecond(args)))
		return get_interval(linitial(args), &atom->offset);
	if (function != F_TIMESTAMPTZ_MI_INTERVAL || !is_now(linitial(args)) || !get_interval(lsecond(args), &atom->offset))
		return false;
	atom->offset = -atom->offset;
	return true;
}

/* Whether an expression is the day of now(). */
static bool
is_today(Node *node)
{
	Oid			function;
	List	   *args;

	return get_call(node, &function, &args) && function == F_DATE_TIMESTAMPTZ && is_now(linitial(args));
}

/* The same for the day: current_date, now()::date, a number of days from it, and the days since another one. */
static bool
read_day(Node *timed, PsLiveAtom *atom)
{
	Oid			function;
	List	   *args;

	atom->kind = PS_LIVE_AT_DAY;
	atom->offset = 0;
	if (!get_call(timed, &function, &args))
		return false;
	if (function == F_DATE_MI && atom->other_type == INT4OID)
	{
		atom->start = lsecond(args);
		return is_today(linitial(args));
	}
	if (atom->other_type != DATEOID)
		return false;
	if (function == F_DATE_PLI || function == F_DATE_MII)
	{
		if (!get_days(lsecond(args), &atom->offset))
			return false;
		if (function == F_DATE_MII)
			atom->offset = -atom->offset;
		timed = linitial(args);
	}
	return is_today(timed);
}

/* The strategy of a comparison; 0 for an operator that compares in no order. */
static int
strategy_of(Oid operator)
{
	List	   *orders = ps_operator_orders(operator);

	return orders == NIL ? 0 : ps_operator_strategy((PsOperatorOrder *) linitial(orders));
}

/* The metric that one side is, if it is nothing else. */
static const PsLiveParam *
metric_of(const Node *node, const PsLiveAnalysis *analysis)
{
	PsLiveParam *param;

	if (!IsA(node, Param))
		return NULL;
	param = list_nth(analysis->predicate->params, ((const Param *) node)->paramid - 1);
	return param->kind == PS_LIVE_METRIC ? param : NULL;
}

/* The parameter of a metric for an atom. The planner may have copied the Param: outside of the atom it has another meaning. */
static Param *
atom_metric(const Node *node, PsLiveAnalysis *analysis)
{
	PsLiveParam *param = palloc(sizeof(PsLiveParam));

	*param = *metric_of(node, analysis);
	param->in_atom = true;
	return ps_live_param_make(analysis, param, InvalidOid);
}

/* Decides how the next change of a comparison is found; false: it changes with time in a way that is not known. */
static bool
read_comparison(Node *timed, int strategy, PsLiveAnalysis *analysis, PsLiveAtom *atom)
{
	const PsLiveParam *metric = metric_of(timed, analysis);

	if (metric != NULL)
	{
		atom->kind = PS_LIVE_BY_SAMPLES;
		atom->metric = metric->metric;
		return true;
	}
	if (change_of(timed) != IN_ONE_DIRECTION)
		return false;
	if (read_moment(timed, atom) || read_day(timed, atom))
		return true;
	atom->kind = PS_LIVE_BY_SEARCH;
	atom->start = NULL;
	/* what is equal for a while changes twice */
	return strategy >= BTLessStrategyNumber && strategy <= BTGreaterStrategyNumber && strategy != BTEqualStrategyNumber;
}

/* Makes an atom of a comparison that has such sides; NULL: it has not. */
static Node *
make_atom(const OpExpr * op, PsLiveAnalysis *analysis)
{
	int			strategy = list_length(op->args) == 2 ? strategy_of(op->opno) : 0;

	for (int side = 0; side < 2 && strategy != 0; side++)
	{
		Node	   *timed = list_nth(op->args, side);
		Node	   *other = list_nth(op->args, 1 - side);
		PsLiveAtom *atom = palloc0(sizeof(PsLiveAtom));
		PsLiveParam *value = palloc0(sizeof(PsLiveParam));
		PsLiveParam *result = palloc0(sizeof(PsLiveParam));
		OpExpr	   *comparison = copyObject(unconstify(OpExpr *, op));

		if (has_now_walker(other, NULL) || metric_of(other, analysis) != NULL ||
			(!has_now_walker(timed, NULL) && metric_of(timed, analysis) == NULL))
			continue;
		atom->other_type = exprType(other);
		if (!read_comparison(timed, strategy, analysis, atom))
			return NULL;
		value->kind = PS_LIVE_OTHER;
		value->type = atom->other_type;
		value->atom = result->atom = atom;
		result->kind = PS_LIVE_ATOM;
		result->type = BOOLOID;
		lfirst(list_nth_cell(comparison->args, 1 - side)) = ps_live_param_make(analysis, value, exprCollation(other));
		if (atom->metric != NULL)
			lfirst(list_nth_cell(comparison->args, side)) = atom_metric(timed, analysis);
		atom->comparison = (Expr *) comparison;
		atom->other = (Expr *) other;
		return (Node *) ps_live_param_make(analysis, result, InvalidOid);
	}
	return NULL;
}

Node *
ps_live_atoms_make(Node *node, PsLiveAnalysis *analysis)
{
	Node	   *atom;

	if (node == NULL)
		return NULL;
	if (IsA(node, OpExpr) && (atom = make_atom((OpExpr *) node, analysis)) != NULL)
		return atom;
	if (is_now(node) && analysis->why == NULL)
		analysis->why = "it uses the time in another way than in a comparison by which the next change is known";
	return expression_tree_mutator(node, ps_live_atoms_make, analysis);
}

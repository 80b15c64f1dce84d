/*
 * live_predicate.c
 *	  Compiles the predicate of a live segment. First it is analysed like a WHERE of the
 *	  view profiles, and checked: a predicate that could read anything but the customer is
 *	  refused. Then everything that it takes from the customer becomes a parameter. At
 *	  last each comparison with the time, or with a metric, becomes an atom (live_atom.c).
 */
#include "postgres.h"

#include "access/relation.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "parser/analyze.h"
#include "parser/parser.h"
#include "store/live_analysis.h"
#include "store/owner.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rls.h"

/*
 * Functions of pg_catalog that are STABLE only because the time zone, the style of dates
 * or the locale of numbers may be set; these are fixed while predicates are evaluated.
 */
static const char *const depend_on_settings[] = {
	"array_in", "array_out", "array_to_string", "concat", "concat_ws", "date", "date_in", "date_out", "date_part", "date_trunc",
	"extract", "format", "interval_in", "interval_out", "interval_pl_timestamptz", "make_timestamptz", "timestamp", "timestamp_in",
	"timestamp_out", "timestamptz", "timestamptz_in", "timestamptz_mi_interval", "timestamptz_out", "timestamptz_pl_interval",
	"to_char", "to_date", "to_number", "to_timestamp"
};

static const char *const compare_times[] = {"date", "timestamp", "timestamptz"};

/* Whether a name is that of a comparison of dates and timestamps: date_lt_timestamptz. */
static bool
is_time_comparison(const char *name)
{
	for (int i = 0; i < lengthof(compare_times); i++)
		for (int j = 0; j < lengthof(compare_times); j++)
		{
			size_t		len = strlen(compare_times[i]);

			if (strncmp(name, compare_times[i], len) == 0 && name[len] == '_' && strlen(name) > len + 4 &&
				strcmp(name + len + 3, psprintf("_%s", compare_times[j])) == 0)
				return true;
		}
	return false;
}

static bool
depends_on_settings_only(Oid function, const char *name)
{
	if (get_func_namespace(function) != PG_CATALOG_NAMESPACE)
		return false;
	for (int i = 0; i < lengthof(depend_on_settings); i++)
		if (strcmp(name, depend_on_settings[i]) == 0)
			return true;
	return is_time_comparison(name);
}

static bool
is_now_function(Oid function)
{
	return function == F_NOW || function == F_TRANSACTION_TIMESTAMP;
}

/* Notes the first reason only. */
static bool
live_predicate_refuse(PsLiveAnalysis *analysis, const char *why)
{
	if (analysis->why == NULL)
		analysis->why = why;
	return true;
}

/* Refuses a function that may read something else than its arguments. */
static bool
refuse_function(Oid function, void *arg)
{
	const char *name = get_func_name(function);
	PsLiveAnalysis *analysis = arg;

	if (get_func_namespace(function) != PG_CATALOG_NAMESPACE || func_volatile(function) != PROVOLATILE_IMMUTABLE)
		analysis->predicate->reads_settings = true;
	if (name == NULL || is_now_function(function) || func_volatile(function) == PROVOLATILE_IMMUTABLE)
		return false;
	if (func_volatile(function) == PROVOLATILE_STABLE && depends_on_settings_only(function, name))
		return false;
	return live_predicate_refuse(arg, psprintf("function %s() is %s, so it may read other data", name,
											   func_volatile(function) == PROVOLATILE_STABLE ? "STABLE" : "VOLATILE"));
}

/* Refuses the function that reads or writes the elements of an array: array_in() and array_out() call it. */
static bool
refuse_elements(const CoerceViaIO * node, PsLiveAnalysis *analysis)
{
	Oid			from = get_element_type(exprType((const Node *) node->arg));
	Oid			to = get_element_type(node->resulttype);
	Oid			function;
	Oid			param;
	bool		varlena;

	if (OidIsValid(from))
	{
		getTypeOutputInfo(from, &function, &varlena);
		if (refuse_function(function, analysis))
			return true;
	}
	if (!OidIsValid(to))
		return false;
	getTypeInputInfo(to, &function, &param);
	return refuse_function(function, analysis);
}

static bool
refuse_session_value(const SQLValueFunction * value, PsLiveAnalysis *analysis)
{
	switch (value->op)
	{
		case SVFOP_CURRENT_DATE:
		case SVFOP_CURRENT_TIMESTAMP:
		case SVFOP_LOCALTIMESTAMP:
			/* the role is always the owner of the segment */
		case SVFOP_CURRENT_ROLE:
		case SVFOP_CURRENT_USER:
		case SVFOP_USER:
			return false;
		default:
			return live_predicate_refuse(analysis, "it depends on the session, or on the time of the day");
	}
}

/* Whether a call is one of metric_value(). */
static bool
is_metric_value(const Node *node)
{
	Oid			function;
	char	   *name;

	if (!IsA(node, FuncExpr))
		return false;
	function = ((const FuncExpr *) node)->funcid;
	name = get_func_name(function);
	return name != NULL && strcmp(name, "metric_value") == 0 && get_func_namespace(function) == ps_own_schema(true);
}

/* Looks for what makes a predicate other than live; true ends the search. */
static bool
refuse_walker(Node *node, PsLiveAnalysis *analysis)
{
	if (node == NULL)
		return false;
	switch (nodeTag(node))
	{
		case T_SubLink:
			return live_predicate_refuse(analysis, "it has a subquery");
		case T_CoerceToDomain:
			return live_predicate_refuse(analysis, "it converts to a domain, whose constraints may read other data");
		case T_XmlExpr:
		case T_NextValueExpr:
			return live_predicate_refuse(analysis, "it uses XML or a sequence");
		case T_Var:
			return ((Var *) node)->varattno <= 0 && live_predicate_refuse(analysis, "it uses the whole row of profiles");
		case T_SQLValueFunction:
			return refuse_session_value((SQLValueFunction *) node, analysis);
		case T_CoerceViaIO:
			if (refuse_elements((CoerceViaIO *) node, analysis))
				return true;
			break;
		case T_FuncExpr:
			if (is_metric_value(node))
				return false;
			break;
		default:
			break;
	}
	if (check_functions_in_node(node, refuse_function, analysis))
		return true;
	return expression_tree_walker(node, refuse_walker, analysis);
}

static PsLiveParam *
make_param(PsLiveParamKind kind, Oid type)
{
	PsLiveParam *param = palloc0(sizeof(PsLiveParam));

	param->kind = kind;
	param->type = type;
	return param;
}

/* The parameter for now(). */
static Param *
now_param(void)
{
	Param	   *node = makeNode(Param);

	node->paramkind = PARAM_EXTERN;
	node->paramid = PS_LIVE_NOW_PARAM;
	node->paramtype = TIMESTAMPTZOID;
	node->paramtypmod = -1;
	node->location = -1;
	return node;
}

/* A metric by its name; the predicates of one pool share it. */
static PsLiveMetric *
live_predicate_find_metric(PsLiveAnalysis *analysis, const char *name)
{
	const PsMetric *metric = ps_metric_find(analysis->pool->metrics, name);
	PsLiveMetric *live;
	ListCell   *cell;

	if (metric == NULL)
	{
		(void) live_predicate_refuse(analysis, psprintf("metric \"%s\" does not exist", name));
		return NULL;
	}
	foreach(cell, analysis->pool->used)
	{
		live = lfirst(cell);
		if (strcmp(live->metric.name, name) == 0)
			return live;
	}
	live = palloc0(sizeof(PsLiveMetric));
	live->metric = *metric;
	live->metric.name = pstrdup(name);
	if (metric->time_zone != NULL)
		live->metric.time_zone = pstrdup(metric->time_zone);
	if (metric->fraction != NULL)
		live->metric.fraction = DatumGetNumericCopy(NumericGetDatum(metric->fraction));
	analysis->pool->used = lappend(analysis->pool->used, live);
	return live;
}

static Node *
metric_param(PsLiveAnalysis *analysis, const char *name, Oid type)
{
	PsLiveParam *param = make_param(PS_LIVE_METRIC, type);

	param->metric = live_predicate_find_metric(analysis, name);
	analysis->predicate->reads_samples = true;
	return (Node *) ps_live_param_make(analysis, param, InvalidOid);
}

/* Makes the parameter one of a column that a refresh of scores computes; false: there is none of that name. */
static bool
set_batch_column(PsLiveParam *param, const char *name)
{
	static const char *const batch_columns[] = {PS_SCORE_SEGMENT, PS_SCORE_CHURN_RISK, PS_SCORE_LIFETIME_VALUE, "scored_at"};

	for (int i = 0; i < lengthof(batch_columns); i++)
	{
		if (strcmp(batch_columns[i], name) != 0)
			continue;
		param->kind = PS_LIVE_BATCH_COLUMN;
		param->column = PS_ROW_segment + i;
		return true;
	}
	return false;
}

/* The parameter for a column of the view profiles. */
static Node *
column_param(PsLiveAnalysis *analysis, const Var * var)
{
	const char *name = get_attname(analysis->view, var->varattno, false);
	const PsProfileColumn *column = ps_profile_find_column(name);
	PsLiveParam *param = make_param(PS_LIVE_CUSTOMER_ID, var->vartype);

	if (ps_metric_find(NULL, name) != NULL)
		return metric_param(analysis, name, var->vartype);
	if (column != NULL)
	{
		param->kind = PS_LIVE_COLUMN;
		param->column = column - ps_profile_columns;
		analysis->predicate->reads_attributes |= column->kind == PS_PROFILE_ATTRIBUTES;
	}
	else if (strcmp(name, "customer_id") != 0 && !set_batch_column(param, name))
		(void) live_predicate_refuse(analysis, psprintf("column %s is not in the row", name));
	return (Node *) ps_live_param_make(analysis, param, var->varcollid);
}

static Node *
strip_relabel(Node *node)
{
	while (node != NULL && IsA(node, RelabelType))
		node = (Node *) ((RelabelType *) node)->arg;
	return node;
}

/* metric_value(customer_id, 'name'), whose third argument is now() when it is left out. */
static Node *
metric_call_param(PsLiveAnalysis *analysis, const FuncExpr * call)
{
	Node	   *args[3] = {NULL};
	Node	   *customer;
	Node	   *name;
	Node	   *moment;
	int			n = 0;
	ListCell   *cell;

	foreach(cell, call->args)
	{
		Node	   *arg = lfirst(cell);

		if (IsA(arg, NamedArgExpr))
			args[((NamedArgExpr *) arg)->argnumber] = (Node *) ((NamedArgExpr *) arg)->arg;
		else
			args[n] = arg;
		n++;
	}
	customer = strip_relabel(args[0]);
	name = eval_const_expressions(NULL, args[1]);
	moment = args[2];
	if (!IsA(customer, Var) || strcmp(get_attname(analysis->view, ((Var *) customer)->varattno, false), "customer_id") != 0)
		(void) live_predicate_refuse(analysis, "it asks for the metric of another customer");
	else if (moment != NULL && (!IsA(moment, FuncExpr) || !is_now_function(((FuncExpr *) moment)->funcid)))
		(void) live_predicate_refuse(analysis, "it asks for a metric at another moment than now()");
	else if (!IsA(name, Const) || ((Const *) name)->constisnull)
		(void) live_predicate_refuse(analysis, "it asks for a metric by a name that is not a constant");
	else
		return metric_param(analysis, TextDatumGetCString(((Const *) name)->constvalue), NUMERICOID);
	return (Node *) now_param();
}

static Node *
convert_now(Oid function, Oid type)
{
	return (Node *) makeFuncExpr(function, type, list_make1(now_param()), InvalidOid, InvalidOid, COERCE_EXPLICIT_CALL);
}

/* Replaces what the predicate takes from the customer, and from the time, by parameters. */
static Node *
replace_mutator(Node *node, PsLiveAnalysis *analysis)
{
	if (node == NULL)
		return NULL;
	if (IsA(node, Var))
		return column_param(analysis, (Var *) node);
	if (is_metric_value(node))
		return metric_call_param(analysis, (FuncExpr *) node);
	if (IsA(node, FuncExpr) && is_now_function(((FuncExpr *) node)->funcid))
		return (Node *) now_param();
	if (IsA(node, SQLValueFunction) && ((SQLValueFunction *) node)->typmod < 0)
	{
		if (((SQLValueFunction *) node)->op == SVFOP_CURRENT_TIMESTAMP)
			return (Node *) now_param();
		if (((SQLValueFunction *) node)->op == SVFOP_CURRENT_DATE)
			return convert_now(F_DATE_TIMESTAMPTZ, DATEOID);
		if (((SQLValueFunction *) node)->op == SVFOP_LOCALTIMESTAMP)
			return convert_now(F_TIMESTAMP_TIMESTAMPTZ, TIMESTAMPOID);
	}
	return expression_tree_mutator(node, replace_mutator, analysis);
}

/* Whether the current user may read all profiles, as the statement of a refresh would check. */
static bool
may_read_profiles(PsLiveAnalysis *analysis)
{
	Oid			table = ps_own_table(false, "materialized_profiles");

	if (pg_class_aclcheck(analysis->view, GetUserId(), ACL_SELECT) != ACLCHECK_OK ||
		pg_class_aclcheck(table, GetUserId(), ACL_SELECT) != ACLCHECK_OK)
		(void) live_predicate_refuse(analysis, "its owner has no right to read profiles");
	else if (check_enable_rls(table, InvalidOid, true) == RLS_ENABLED)
		(void) live_predicate_refuse(analysis, "row security restricts which profiles its owner reads");
	return analysis->why == NULL;
}

/* The position of an error belongs to a statement that the caller has not written. */
static void
describe_predicate(void *arg)
{
	errposition(0);
	errcontext("predicate of a segment");
}

/* The condition, analysed as a WHERE of the view profiles. */
static Node *
live_predicate_analyse(const char *text)
{
	ErrorContextCallback callback = {error_context_stack, describe_predicate, NULL};
	const char *sql = psprintf("SELECT FROM profile_stream.profiles WHERE (%s\n)", text);
	Query	   *query;

	error_context_stack = &callback;
	query = parse_analyze_fixedparams(linitial_node(RawStmt, raw_parser(sql, RAW_PARSE_DEFAULT)), sql, NULL, 0, NULL);
	error_context_stack = callback.previous;
	return query->jointree->quals;
}

PsLivePredicate *
ps_live_predicate_make(const char *text, PsLivePool *pool, const char **why)
{
	PsLiveAnalysis analysis = {.pool = pool,.predicate = palloc0(sizeof(PsLivePredicate))};
	PsLivePredicate *predicate = analysis.predicate;
	Node	   *quals = live_predicate_analyse(text);

	analysis.view = get_relname_relid("profiles", ps_own_schema(false));
	predicate->params = list_make1(make_param(PS_LIVE_NOW, TIMESTAMPTZOID));
	if (may_read_profiles(&analysis) && !refuse_walker(quals, &analysis))
		quals = replace_mutator(quals, &analysis);
	if (analysis.why == NULL)
		quals = ps_live_atoms_make((Node *) expression_planner((Expr *) quals), &analysis);
	*why = analysis.why;
	if (analysis.why != NULL)
		return NULL;
	predicate->expr = (Expr *) quals;
	predicate->list = makeParamList(0);
	predicate->list->paramCompile = ps_live_param_compile;
	predicate->list->paramCompileArg = predicate;
	predicate->list->numParams = list_length(predicate->params);
	return predicate;
}

bool
ps_live_predicate_reads_samples(const PsLivePredicate *predicate)
{
	return predicate->reads_samples;
}

bool
ps_live_predicate_reads_attributes(const PsLivePredicate *predicate)
{
	return predicate->reads_attributes;
}

bool
ps_live_predicate_reads_settings(const PsLivePredicate *predicate)
{
	return predicate->reads_settings;
}

/*
 * distributed_gate.c
 *	  Which function does what where profiles are distributed. A function that is in no
 *	  list here is refused if it is VOLATILE: whoever adds one thinks of it.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "lib/stringinfo.h"
#include "store/coordinator_calls.h"
#include "store/distributed.h"
#include "store/distributed_gate.h"
#include "store/node_calls.h"
#include "store/outbox.h"
#include "store/plan.h"
#include "store/shard_call.h"
#include "store/shard_fence.h"
#include "store/shard_offsets.h"
#include "store/shards.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"

static const char *const everywhere[] = {
	"create_stream", "alter_stream", "pause_stream", "resume_stream", "seek_stream", "drop_stream", "map_attribute", "unmap_attribute", "create_metric",
	"drop_metric", "register_handler", "unregister_handler", "register_upcaster", "unregister_upcaster", "set_score_settings", "reset_score_settings",
	"set_score_function",
	"create_segment", "alter_segment", "drop_segment", "confirm_code"
};

static const char *const here[] = {
	"apply_event", "apply_events", "apply_event_returning", "retry_events", "discard_dead_letters", "lock_dead_letters", "settle_dead_letters", "decoded_values", "lock_customer", "try_lock_customer", "serve_profile",
	"start_streams", "refresh_scores", "refresh_segments", "stat_reset", "flush_stream", "await_stream", "wait_for_stream", "await_offset", "wait_for_offset",
	"test_connection", "test_redis", "test_handler", "run_coordinator_call", "send_coordinator_calls", "run_on_this_node", "check_no_transaction"
};

/* what all nodes run on what they have of the profiles, see node_calls.h */
static const char *const of_node[] = {"forget_customer", "unblock_customer", "export_customer", "prune_metrics", "reconcile", "resync_sink"};

/* what reads one customer: the first argument is an id, or a row that begins with it */
static const char *const of_customer[] = {
	"get_profile", "metric_value", "metric_trend", "window_value", "window_count", "metric_values", "profile_days", "profile_document", "profile_document_at",
	"masked"
};

/* nodes number the topics that they find, so that a position would be another event's on the next node of a customer */
#define LOCAL_POSITION "(s.topic_pattern IS NOT NULL AND pg_catalog.strpos(pg_catalog.concat(s.field_map, s.topic_formats), 'kafka_position') > 0)"

/* what a stream of distributed profiles cannot do yet */
static PsPlan unsupported_plan = {
	"SELECT pg_catalog.concat_ws(', ', CASE WHEN " LOCAL_POSITION " THEN 'kafka_position with topic_pattern' END,"
	" CASE WHEN s.reorder_wait > '0' THEN 'reorder_wait' END), s.name FROM profile_stream.streams s"
	" WHERE " LOCAL_POSITION " OR s.reorder_wait > '0' LIMIT 1"
};

typedef enum FunctionKind
{
	EVERYWHERE,
	HERE,
	OF_NODE,
	OF_CUSTOMER,
	OTHER
} FunctionKind;

static FunctionKind
kind_of_function(const char *name)
{
	static const struct
	{
		const char *const *names;
		int			n;
	}			lists[] = {
		[EVERYWHERE] = {everywhere, lengthof(everywhere)},
		[HERE] = {here, lengthof(here)},
		[OF_NODE] = {of_node, lengthof(of_node)},
		[OF_CUSTOMER] = {of_customer, lengthof(of_customer)}
	};

	for (int kind = 0; kind < lengthof(lists); kind++)
		for (int i = 0; i < lists[kind].n; i++)
			if (strcmp(lists[kind].names[i], name) == 0)
				return kind;
	return OTHER;
}

/* All arguments of a call, as their types write them: a text[]. */
static Datum
arguments_of_call(FunctionCallInfo fcinfo)
{
	Oid		   *types;
	int			ntypes;
	int			bound = 1;
	int			nest_level = ps_coordinator_calls_settings();
	Datum	   *texts;
	bool	   *nulls;

	(void) get_func_signature(fcinfo->flinfo->fn_oid, &types, &ntypes);
	texts = palloc0(ntypes * sizeof(Datum));
	nulls = palloc(ntypes * sizeof(bool));
	for (int i = 0; i < ntypes; i++)
	{
		Oid			output;
		bool		is_varlena;

		getTypeOutputInfo(types[i], &output, &is_varlena);
		nulls[i] = fcinfo->args[i].isnull;
		if (!nulls[i])
			texts[i] = CStringGetTextDatum(OidOutputFunctionCall(output, fcinfo->args[i].value));
	}
	AtEOXact_GUC(true, nest_level);
	return PointerGetDatum(construct_md_array(texts, nulls, 1, &ntypes, &bound, TEXTOID, -1, false, TYPALIGN_INT));
}

/* Raises when a stream has options that do not work on distributed profiles. */
static void
check_streams(void)
{
	if (ps_plan_run(&unsupported_plan, NULL, NULL, SPI_OK_SELECT) > 0)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("options of stream \"%s\" do not work on distributed profiles: %s", ps_plan_text(0, 2), ps_plan_text(0, 1)),
				 errhint("Leave them out.")));
}

/* A call in SQL. */
static char *
text_of_call(const char *name, Datum arguments)
{
	StringInfoData sql;
	Datum	   *texts;
	bool	   *nulls;
	int			n;

	deconstruct_array(DatumGetArrayTypeP(arguments), TEXTOID, -1, false, TYPALIGN_INT, &texts, &nulls, &n);
	initStringInfo(&sql);
	appendStringInfo(&sql, "%s(", name);
	for (int i = 0; i < n; i++)
		appendStringInfo(&sql, "%s%s", i > 0 ? ", " : "", nulls[i] ? "NULL" : quote_literal_cstr(TextDatumGetCString(texts[i])));
	appendStringInfoChar(&sql, ')');
	return sql.data;
}

/*
 * After a call that drops a stream, or takes a sink from it: removes what the shards here have of it. It comes last, so
 * that nobody waits for this node while it keeps its shards from moving.
 */
static void
forget_dropped(const char *name)
{
	if (strcmp(name, "drop_stream") == 0)
		(void) ps_each_shard(ps_shard_offsets_forget_dropped, NULL);
	if (strcmp(name, "drop_stream") == 0 || strcmp(name, "alter_stream") == 0)
		(void) ps_each_shard(ps_outbox_forget_gone, NULL);
}

/* Runs a function on the coordinator, and then on the other nodes. */
static Datum
call_everywhere(FunctionCallInfo fcinfo, PGFunction function, const char *name)
{
	MemoryContext caller = CurrentMemoryContext;
	Datum		result;
	Datum		made;
	PsCoordinatorCall call = {.function = DirectFunctionCall1(namein, CStringGetDatum(name))};

	if (!ps_shards_on_coordinator())
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("%s() runs on all nodes, and is called on the coordinator", name),
				 errhint("Call it there.")));
	PreventInTransactionBlock(true, psprintf("%s()", name));
	SPI_connect();
	ps_coordinator_call_init(&call);
	MemoryContextSwitchTo(caller);
	made = arguments_of_call(fcinfo);
	result = function(fcinfo);
	/* seek_stream() has replaced an argument by what it found, which is to be the same on all nodes */
	call.arguments = arguments_of_call(fcinfo);
	call.again = datumIsEqual(made, call.arguments, false, -1) ? NULL : text_of_call(name, call.arguments);
	check_streams();
	ps_coordinator_calls_add(&call);
	ps_coordinator_calls_send(&call);
	forget_dropped(name);
	SPI_finish();
	return result;
}

void
ps_distributed_gate_run(const PsCoordinatorCall *call)
{
	const char *name = NameStr(*DatumGetName(call->function));

	if (!ps_distributed() || ps_shards_on_coordinator())
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("this server is no worker node of distributed profiles"),
				 errhint("Calls are made on the coordinator, which sends them to the other nodes.")));
	if (kind_of_function(name) != EVERYWHERE)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("%s() does not run on all nodes", name)));
	ps_coordinator_calls_run(call);
	forget_dropped(name);
}

Datum
ps_distributed_gate(FunctionCallInfo fcinfo, PGFunction function)
{
	char	   *name;

	if (!ps_distributed() || fcinfo->flinfo == NULL)
		return function(fcinfo);
	name = get_func_name(fcinfo->flinfo->fn_oid);
	switch (kind_of_function(name))
	{
		case EVERYWHERE:
			if (!ps_coordinator_calls_running())
				return call_everywhere(fcinfo, function, name);
			break;
		case HERE:
			break;
		case OF_NODE:
			if (!ps_node_call_is_running())
				ps_distributed_refuse(psprintf("%s()", name));
			break;
		case OF_CUSTOMER:
			return ps_shard_call(fcinfo, function);
		case OTHER:
			if (func_volatile(fcinfo->flinfo->fn_oid) == PROVOLATILE_VOLATILE)
				ps_distributed_refuse(psprintf("%s()", name));
			break;
	}
	return function(fcinfo);
}

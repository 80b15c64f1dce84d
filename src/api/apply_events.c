/*
 * apply_events.c
 *	  apply_event() and apply_events() apply events without Kafka, in the caller's
 *	  transaction. retry_events() does the same for dead letters, and prune_metrics()
 *	  removes samples that no window needs.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "api/caller.h"
#include "api/forward.h"
#include "api/metric_values.h"
#include "apply/apply.h"
#include "apply/notify.h"
#include "apply/prune.h"
#include "apply/shard_apply.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "store/distributed.h"
#include "store/extension.h"
#include "store/function.h"
#include "store/plan.h"
#include "store/profile_reader.h"
#include "store/rule_catalog.h"
#include "store/secret.h"
#include "store/shard_call.h"
#include "store/shards.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

/* Makes the message that Kafka would have brought. */
static void
entry_from_jsonb(PsApplyItem *item, Jsonb *value)
{
	memset(item, 0, sizeof(PsApplyItem));
	item->message.topic_no = -1;
	item->message.partition = -1;
	item->message.offset = -1;
	item->message.kafka_timestamp = DT_NOBEGIN;
	if (value != NULL)
	{
		StringInfoData text;

		initStringInfo(&text);
		(void) JsonbToCString(&text, &value->root, VARSIZE(value));
		item->message.value = text.data;
		item->message.value_len = text.len;
	}
}

/* The settings of a call from SQL, which notifies. */
static PsApplySettings
call_settings(void)
{
	PsApplySettings settings = ps_apply_session_settings();

	settings.notify = PS_NOTIFY_CUSTOMER;
	settings.notify_channel = ps_secret_name(PS_UPDATES_CHANNEL);
	return settings;
}

/* A call of a function that applies events, which another node can run as well. */
typedef struct EventCall
{
	FunctionCallInfo fcinfo;	/* NULL: another node cannot */
	const Datum *events;		/* one for each item */
	bool		is_array;		/* the function takes an array of events */
	Datum		result;			/* of the function on another node, where it takes one event; 0: the event was applied
								 * here */
} EventCall;

/* Has other nodes apply the events of their customers. */
static void
forward_events(EventCall *call, PsApplyItem *items, int n)
{
	if (call->fcinfo == NULL)
		return;
	if (call->is_array)
		ps_forward_events(call->fcinfo->flinfo->fn_oid, items, call->events, n);
	else
		call->result = ps_forward_event(call->fcinfo->flinfo->fn_oid, &items[0], call->events[0]);
}

static void
apply_here(PsApplyItem *items, int n, const PsApplySettings *settings)
{
	ps_apply_read(items, n, settings);
	if (ps_distributed())
		ps_apply_items_by_shard(items, n, settings);
	else
		ps_apply_items(items, n, settings);
}

static void
apply_events_apply_entries(EventCall *call, PsApplyItem *items, int n, PsApplySettings settings)
{
	ps_function_refuse_nested("apply_event()");
	settings.rules = ps_rules_hold();
	PG_TRY();
	{
		ps_apply_decode(items, n, &settings);
		if (ps_distributed())
			forward_events(call, items, n);
		if (call->result == (Datum) 0)
			apply_here(items, n, &settings);
	}
	PG_FINALLY();
	{
		ps_rules_release();
	}
	PG_END_TRY();
}

/* Applies an array of events; returns the items with their outcomes. With fcinfo other nodes apply those of their customers. */
static PsApplyItem *
apply_array(FunctionCallInfo fcinfo, ArrayType *array, int *n, PsApplySettings settings)
{
	EventCall	call = {.fcinfo = fcinfo,.is_array = true};
	Datum	   *values;
	bool	   *nulls;
	PsApplyItem *items;

	deconstruct_array(array, JSONBOID, -1, false, TYPALIGN_INT, &values, &nulls, n);
	items = palloc(Max(*n, 1) * sizeof(PsApplyItem));
	for (int i = 0; i < *n; i++)
		entry_from_jsonb(&items[i], nulls[i] ? NULL : DatumGetJsonbP(values[i]));
	call.events = values;
	if (*n > 0)
		apply_events_apply_entries(&call, items, *n, settings);
	return items;
}

PS_FUNCTION(ps_apply_event);
static Datum
ps_apply_event_checked(PG_FUNCTION_ARGS)
{
	PsApplyItem item;
	EventCall	call = {.fcinfo = fcinfo,.events = &PG_GETARG_DATUM(0)};

	entry_from_jsonb(&item, PG_GETARG_JSONB_P(0));
	apply_events_apply_entries(&call, &item, 1, call_settings());
	if (call.result != (Datum) 0)
		return call.result;
	PG_RETURN_TEXT_P(cstring_to_text(ps_outcome_names[item.outcome]));
}

/* What apply_event_returning() says beside the outcome. */
typedef struct Moved
{
	const PsEffect *effect;
	const text *customer_id;
	TimestampTz as_of;
	PsWindow	window;
	JsonbParseState *state;
} Moved;

/* Adds the values of those metrics that read a series to which the event adds a sample. */
static void
push_moved(Moved *moved, const PsMetric *metrics, int n)
{
	for (int i = 0; i < n; i++)
	{
		JsonbValue	key = ps_value_string(metrics[i].name, strlen(metrics[i].name));
		JsonbValue	value = {.type = jbvNull};
		Numeric		number;

		if (!ps_effect_moves(moved->effect, metrics[i].series))
			continue;
		number = ps_value_as_of(&moved->window, &metrics[i], moved->customer_id, moved->as_of, false);
		if (number != NULL)
			value = ps_value_number(number);
		(void) pushJsonbValue(&moved->state, WJB_KEY, &key);
		(void) pushJsonbValue(&moved->state, WJB_VALUE, &value);
	}
}

/*
 * Reads the customer's profile as it is now, with the caller's rights. Returns the
 * metrics that an event moves; 0: the caller sees no such profile.
 */
static Datum
read_moved(const PsApplyItem *item, int64 *version)
{
	Moved		moved = {
		.effect = item->effect != NULL ? item->effect : item->raised_effect,
		.customer_id = cstring_to_text(item->event->customer_id),
		.as_of = Max(GetCurrentTimestamp(), item->event->timestamp)
	};
	const PsMetrics *metrics = &ps_rules_get()->metrics;
	MemoryContext caller = CurrentMemoryContext;
	Datum		result = (Datum) 0;
	bytea	   *state;
	int			nbuiltins;
	const PsMetric *builtins = ps_metric_builtins(&nbuiltins);

	/* a snapshot that shows what the event did */
	CommandCounterIncrement();
	PushActiveSnapshot(GetLatestSnapshot());
	SPI_connect();
	MemoryContextSwitchTo(caller);
	if (ps_profile_window_select(PointerGetDatum(moved.customer_id), version, &state))
	{
		ps_load_window(&moved.window, state);
		(void) pushJsonbValue(&moved.state, WJB_BEGIN_OBJECT, NULL);
		push_moved(&moved, builtins, nbuiltins);
		push_moved(&moved, metrics->metrics, metrics->nmetrics);
		result = JsonbPGetDatum(JsonbValueToJsonb(pushJsonbValue(&moved.state, WJB_END_OBJECT, NULL)));
	}
	SPI_finish();
	PopActiveSnapshot();
	return result;
}

/* The same where the profile is, on the shard of its customer or on one server. */
static Datum
read_moved_in_shard(const PsApplyItem *item, int64 *version)
{
	volatile Datum result = (Datum) 0;

	ps_shards_use_customer(item->event->customer_id, item->event->customer_id_len);
	PG_TRY();
	{
		result = read_moved(item, version);
	}
	PG_FINALLY();
	{
		ps_shards_use(PS_NO_SHARD);
	}
	PG_END_TRY();
	return result;
}

PS_FUNCTION(ps_apply_event_returning);
static Datum
ps_apply_event_returning_checked(PG_FUNCTION_ARGS)
{
	PsEffect	raised_effect = {0};
	PsApplyItem item;
	EventCall	call = {.fcinfo = fcinfo,.events = &PG_GETARG_DATUM(0)};
	TupleDesc	desc;
	Datum		values[3];
	bool		nulls[3] = {false, true, true};
	int64		version = 0;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	entry_from_jsonb(&item, PG_GETARG_JSONB_P(0));
	item.raised_effect = &raised_effect;
	apply_events_apply_entries(&call, &item, 1, call_settings());
	if (call.result != (Datum) 0)
		return call.result;
	values[0] = CStringGetTextDatum(ps_outcome_names[item.outcome]);
	if (item.outcome == PS_APPLIED || item.outcome == PS_DUPLICATE)
	{
		values[2] = read_moved_in_shard(&item, &version);
		values[1] = Int64GetDatum(version);
		nulls[1] = nulls[2] = values[2] == (Datum) 0;
	}
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}

PS_FUNCTION(ps_apply_events);
static Datum
ps_apply_events_checked(PG_FUNCTION_ARGS)
{
	int			n;
	PsApplyItem *items = apply_array(fcinfo, PG_GETARG_ARRAYTYPE_P(0), &n, call_settings());
	Datum	   *values = palloc(Max(n, 1) * sizeof(Datum));

	for (int i = 0; i < n; i++)
		values[i] = CStringGetTextDatum(ps_outcome_names[items[i].outcome]);
	PG_RETURN_ARRAYTYPE_P(construct_array(values, n, TEXTOID, -1, false, TYPALIGN_INT));
}

/* The shard of an event, where another node has it; else PS_NO_SHARD. */
static int
shard_elsewhere_of(Jsonb *event)
{
	PsApplySettings settings = call_settings();
	PsApplyItem item;

	if (!ps_distributed())
		return PS_NO_SHARD;
	entry_from_jsonb(&item, event);
	settings.rules = ps_rules_hold();
	PG_TRY();
	{
		ps_apply_decode(&item, 1, &settings);
	}
	PG_FINALLY();
	{
		ps_rules_release();
	}
	PG_END_TRY();
	return ps_forward_shard(&item);
}

PS_FUNCTION(ps_node_of_event);
static Datum
ps_node_of_event_checked(PG_FUNCTION_ARGS)
{
	int			shard = shard_elsewhere_of(PG_GETARG_JSONB_P(0));

	if (shard == PS_NO_SHARD)
		PG_RETURN_NULL();
	PG_RETURN_INT32(ps_shards_first_beside(shard));
}

/* The node of the first event of an array applies all of them, where it is another one: a shard there; else PS_NO_SHARD. */
static int
shard_elsewhere_of_first(ArrayType *array)
{
	int			first = 1;
	bool		isnull = true;
	Datum		event = (Datum) 0;

	if (ps_distributed() && ArrayGetNItems(ARR_NDIM(array), ARR_DIMS(array)) > 0)
		event = array_get_element(PointerGetDatum(array), 1, &first, -1, -1, false, TYPALIGN_INT, &isnull);
	return isnull ? PS_NO_SHARD : shard_elsewhere_of(DatumGetJsonbP(event));
}

/* Calls retry_events() on another node. */
static Datum
retry_there(FunctionCallInfo fcinfo, int shard)
{
	ArrayType  *events = PG_GETARG_ARRAYTYPE_P(0);
	int64		n = ArrayGetNItems(ARR_NDIM(events), ARR_DIMS(events));
	Datum		result = ps_shard_call_there(fcinfo, shard);
	int64		returned = tuplestore_tuple_count(((ReturnSetInfo *) fcinfo->resultinfo)->setResult);

	if (returned != n)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("another node returned " INT64_FORMAT " outcomes of " INT64_FORMAT " events", returned, n),
				 errhint("All nodes need the same version of profile_stream.")));
	return result;
}

/* Adds a row of retry_events(): the outcome of an event, and the reason for it. */
static void
put_outcome(ReturnSetInfo *result, int ordinal, const PsApplyItem *item)
{
	Datum		values[5] = {Int32GetDatum(ordinal), CStringGetTextDatum(ps_outcome_names[item->outcome])};
	bool		nulls[5] = {false, false, true, true, true};
	const PsReject *reject = ps_item_reason(item);

	if (item->outcome == PS_DEAD && reject != NULL)
	{
		values[2] = CStringGetTextDatum(reject->kind);
		values[3] = ps_reject_errors(reject);
		nulls[2] = nulls[3] = false;
		nulls[4] = reject->sqlstate == NULL;
		if (!nulls[4])
			values[4] = CStringGetTextDatum(reject->sqlstate);
	}
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

PS_FUNCTION(ps_retry_events);
static Datum
ps_retry_events_checked(PG_FUNCTION_ARGS)
{
	PsApplySettings settings = call_settings();
	PsTextSet	types = ps_text_set_of_array(PG_GETARG_DATUM(4));
	int			n;
	PsApplyItem *items;
	int			shard = shard_elsewhere_of_first(PG_GETARG_ARRAYTYPE_P(0));

	if (shard != PS_NO_SHARD)
		return retry_there(fcinfo, shard);
	InitMaterializedSRF(fcinfo, 0);
	settings.dedupe_retention_us = PG_GETARG_INT64(1);
	settings.event_id_scope = PG_GETARG_INT32(2);
	settings.accept_unknown_schema = PG_GETARG_BOOL(3);
	settings.event_types = types.n > 0 ? &types : NULL;
	settings.classify_only = true;
	items = apply_array(NULL, PG_GETARG_ARRAYTYPE_P(0), &n, settings);
	for (int i = 0; i < n; i++)
		put_outcome((ReturnSetInfo *) fcinfo->resultinfo, i + 1, &items[i]);
	return (Datum) 0;
}

PS_FUNCTION(ps_prune_metrics);
static Datum
ps_prune_metrics_checked(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT64(ps_prune(PG_GETARG_TIMESTAMPTZ(0), ps_apply_max_customers(1)));
}

/*
 * apply_events.c
 *	  apply_event(), apply_events(), retry_events() and prune_metrics(): the way
 *	  in without Kafka, in the caller's transaction.
 */
#include "postgres.h"

#include "api/caller.h"
#include "apply/apply.h"
#include "apply/notify.h"
#include "apply/prune.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "settings.h"
#include "store/distributed.h"
#include "store/event_log.h"
#include "store/extension.h"
#include "store/function.h"
#include "store/rule_catalog.h"
#include "store/secret.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"

#define DEFAULT_RETENTION (7 * USECS_PER_DAY)

static const char *const outcome_names[] = {"pending", "applied", "duplicate", "dead", "late", "tombstone", "held", "blocked"};

/* Makes the message that Kafka would have brought. */
static void
entry_from_jsonb(PsEntry *entry, Jsonb *value)
{
	memset(entry, 0, sizeof(PsEntry));
	entry->message.partition = -1;
	entry->message.offset = -1;
	entry->message.kafka_timestamp = DT_NOBEGIN;
	if (value != NULL)
	{
		StringInfoData text;

		initStringInfo(&text);
		(void) JsonbToCString(&text, &value->root, VARSIZE(value));
		entry->message.value = text.data;
		entry->message.value_len = text.len;
	}
}

/* Applies entries with the settings of a call from SQL. */
static void
apply_entries(PsEntry *entries, int n, int64 retention_us, int scope, bool judge_only)
{
	PsApplySettings settings = {
		.now = GetCurrentTimestamp(),
		.max_clock_skew_us = ps_max_clock_skew_ms * INT64CONST(1000),
		.max_event_bytes = ps_max_event_bytes,
		.dedupe_retention_us = retention_us,
		.event_id_scope = scope,
		.late_tolerance_us = -1,
		.lock_timeout_ms = -1,
		.judge_only = judge_only,
		.notify = PS_NOTIFY_CUSTOMER,
		.notify_channel = ps_secret_name(PS_UPDATES_CHANNEL)
	};

	ps_function_refuse_nested("apply_event()");
	ps_extension_check();
	settings.rules = ps_rules_hold();
	PG_TRY();
	{
		ps_apply_decode(entries, n, &settings);
		ps_apply_read(entries, n, &settings);
		ps_apply_entries(entries, n, &settings);
	}
	PG_FINALLY();
	{
		ps_rules_release();
	}
	PG_END_TRY();
}

/* Applies an array of events; returns what became of each. */
static PsEntry *
apply_array(ArrayType *array, int *n, int64 retention_us, int scope, bool judge_only)
{
	Datum	   *values;
	bool	   *nulls;
	PsEntry    *entries;

	deconstruct_array(array, JSONBOID, -1, false, TYPALIGN_INT, &values, &nulls, n);
	entries = palloc(Max(*n, 1) * sizeof(PsEntry));
	for (int i = 0; i < *n; i++)
		entry_from_jsonb(&entries[i], nulls[i] ? NULL : DatumGetJsonbP(values[i]));
	if (*n > 0)
		apply_entries(entries, *n, retention_us, scope, judge_only);
	return entries;
}

PG_FUNCTION_INFO_V1(ps_apply_event);
Datum
ps_apply_event(PG_FUNCTION_ARGS)
{
	PsEntry		entry;

	entry_from_jsonb(&entry, PG_GETARG_JSONB_P(0));
	apply_entries(&entry, 1, DEFAULT_RETENTION, 0, false);
	PG_RETURN_TEXT_P(cstring_to_text(outcome_names[entry.outcome]));
}

PG_FUNCTION_INFO_V1(ps_apply_events);
Datum
ps_apply_events(PG_FUNCTION_ARGS)
{
	int			n;
	PsEntry    *entries = apply_array(PG_GETARG_ARRAYTYPE_P(0), &n, DEFAULT_RETENTION, 0, false);
	Datum	   *values = palloc(Max(n, 1) * sizeof(Datum));

	for (int i = 0; i < n; i++)
		values[i] = CStringGetTextDatum(outcome_names[entries[i].outcome]);
	PG_RETURN_ARRAYTYPE_P(construct_array(values, n, TEXTOID, -1, false, TYPALIGN_INT));
}

/* One row of retry_events(): what became of an entry, and why. */
static void
put_outcome(ReturnSetInfo *result, int ordinal, const PsEntry *entry)
{
	Datum		values[5] = {Int32GetDatum(ordinal), CStringGetTextDatum(outcome_names[entry->outcome])};
	bool		nulls[5] = {false, false, true, true, true};
	const PsReject *reject = entry->reject ? entry->reject : entry->refusal ? entry->refusal : entry->failure;

	if (entry->outcome == PS_DEAD && reject != NULL)
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

PG_FUNCTION_INFO_V1(ps_retry_events);
Datum
ps_retry_events(PG_FUNCTION_ARGS)
{
	int			n;
	PsEntry    *entries;

	InitMaterializedSRF(fcinfo, 0);
	entries = apply_array(PG_GETARG_ARRAYTYPE_P(0), &n, PG_GETARG_INT64(1), PG_GETARG_INT32(2), true);
	for (int i = 0; i < n; i++)
		put_outcome((ReturnSetInfo *) fcinfo->resultinfo, i + 1, &entries[i]);
	return (Datum) 0;
}

PG_FUNCTION_INFO_V1(ps_prune_metrics);
Datum
ps_prune_metrics(PG_FUNCTION_ARGS)
{
	ps_distributed_check();
	PG_RETURN_INT64(ps_prune(PG_GETARG_TIMESTAMPTZ(0), ps_apply_max_customers(1)));
}

PG_FUNCTION_INFO_V1(ps_event_key_sql);
Datum
ps_event_key_sql(PG_FUNCTION_ARGS)
{
	text	   *customer_id = PG_GETARG_TEXT_PP(0);
	text	   *event_id = PG_GETARG_TEXT_PP(1);

	PG_RETURN_INT64(ps_event_key(VARDATA_ANY(customer_id), VARSIZE_ANY_EXHDR(customer_id),
								 VARDATA_ANY(event_id), VARSIZE_ANY_EXHDR(event_id)));
}

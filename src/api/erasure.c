/*
 * erasure.c
 *	  forget_customer(), unblock_customer(), export_customer(), and the functions that find
 *	  a customer's id in the bytes of a message.
 *
 *	  export_customer() reads with the caller's rights, so that row security holds.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "api/caller.h"
#include "apply/notify.h"
#include "core/redact.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "settings.h"
#include "store/blocked.h"
#include "store/customer_erasure.h"
#include "store/customer_export.h"
#include "store/distributed.h"
#include "store/extension.h"
#include "store/lock_wait.h"
#include "store/locks.h"
#include "store/outbox.h"
#include "store/secret.h"
#include "store/shard_fence.h"
#include "store/shards.h"
#include "utils/builtins.h"
#include "utils/datum.h"

#define ERASED "[erased]"

/* The customer_id of a call. Locks the customer until the transaction ends, so that no event is applied meanwhile. */
static char *
lock_customer(text *argument, const char *function)
{
	char	   *customer_id = text_to_cstring(argument);
	int64		key = ps_lock_key(customer_id, strlen(customer_id));

	PreventCommandIfReadOnly(function);
	ps_check_argument(customer_id[0] != '\0', "customer_id must not be empty");
	/* an event may be committed during the wait for the lock, and must be seen */
	ps_check_read_committed(function);
	ps_lock_customers(&key, 1);
	return customer_id;
}

/* Tells sinks and listeners that the customer is gone. They never heard of a customer whose id is too long. */
static void
erasure_announce(const char *customer_id)
{
	PsChange	erased = {.customer_id = customer_id,.is_erased = true};
	ListCell   *cell;

	if (strlen(customer_id) > PS_MAX_ID_BYTES)
		return;
	if (!ps_distributed() || ps_shards_used() != PS_NO_SHARD)	/* else the node of the customer tells them */
		ps_outbox_add_changes(&erased, 1, ps_watches_get());
	if (ps_notify_queue_full(ps_notify_queue_limit))
		return;
	foreach(cell, ps_erasure_channels(ps_secret_name(PS_UPDATES_CHANNEL)))
	{
		ps_notify_forgotten(lfirst(cell), customer_id);
	}
}

/* Notes in the log that a customer is forgotten, and not which: nor does the line of the statement tell. */
static void
log_erasure(const PsErased *erased)
{
	ereport(LOG_SERVER_ONLY,
			(errmsg("role \"%s\" forgets a customer: " INT64_FORMAT " profiles and " INT64_FORMAT " dead letters are removed",
					GetUserNameFromId(GetUserId(), false), erased->profiles, erased->dead_letters),
			 errdetail("It is done when the transaction commits."),
			 errhidestmt(true), errhidecontext(true)));
}

static Datum
forget_customer(PG_FUNCTION_ARGS)
{
	const char *customer_id;
	PsErased	erased;
	bool		blocked;
	TupleDesc	desc;
	Datum		values[6];
	bool		nulls[6] = {false};

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	customer_id = lock_customer(PG_GETARG_TEXT_PP(0), "forget_customer()");
	SPI_connect();
	ps_erasure_remove(customer_id, &erased);
	if (PG_GETARG_BOOL(1))
		(void) ps_blocked_add(customer_id);
	ps_blocked_find(&customer_id, 1, &blocked);
	erasure_announce(customer_id);
	SPI_finish();
	log_erasure(&erased);
	values[0] = Int64GetDatum(erased.profiles);
	values[1] = Int64GetDatum(erased.chunks);
	values[2] = Int64GetDatum(erased.event_ids);
	values[3] = Int64GetDatum(erased.dead_letters);
	values[4] = Int64GetDatum(erased.redacted);
	values[5] = BoolGetDatum(blocked);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}

PS_FUNCTION(ps_forget_customer);
static Datum
ps_forget_customer_checked(PG_FUNCTION_ARGS)
{
	volatile Datum result = (Datum) 0;
	text	   *customer_id = PG_GETARG_TEXT_PP(0);

	PG_TRY();
	{
		ps_shard_fence_customer(VARDATA_ANY(customer_id), VARSIZE_ANY_EXHDR(customer_id));
		result = ps_call_bounded(fcinfo, forget_customer, "forget_customer()", PS_SESSION_WAIT_MS);
	}
	PG_FINALLY();
	{
		ps_shards_use(PS_NO_SHARD);
	}
	PG_END_TRY();
	return result;
}

static Datum
unblock_customer(PG_FUNCTION_ARGS)
{
	const char *customer_id = lock_customer(PG_GETARG_TEXT_PP(0), "unblock_customer()");
	bool		was_blocked;

	SPI_connect();
	was_blocked = ps_blocked_remove(customer_id);
	SPI_finish();
	PG_RETURN_BOOL(was_blocked);
}

PS_FUNCTION(ps_unblock_customer);
static Datum
ps_unblock_customer_checked(PG_FUNCTION_ARGS)
{
	return ps_call_bounded(fcinfo, unblock_customer, "unblock_customer()", PS_SESSION_WAIT_MS);
}

/* The document of what this server has about a customer; of distributed profiles, of what this node has. */
static Datum
export_document(const char *customer_id)
{
	int			before = ps_shards_used();
	volatile Datum document = (Datum) 0;

	PG_TRY();
	{
		ps_shards_use_customer(customer_id, strlen(customer_id));
		document = ps_customer_export(customer_id);
	}
	PG_FINALLY();
	{
		ps_shards_use(before);
	}
	PG_END_TRY();
	return document;
}

PS_FUNCTION(ps_export_customer);
static Datum
ps_export_customer_checked(PG_FUNCTION_ARGS)
{
	const char *customer_id = text_to_cstring(PG_GETARG_TEXT_PP(0));
	MemoryContext caller = CurrentMemoryContext;
	Datum		document;

	ps_check_argument(customer_id[0] != '\0', "customer_id must not be empty");
	SPI_connect();
	document = export_document(customer_id);
	MemoryContextSwitchTo(caller);
	document = datumCopy(document, false, -1);
	SPI_finish();
	PG_RETURN_DATUM(document);
}

/* Begins the search of a call of contains_id() or redact_id(). */
static void
start_search(FunctionCallInfo fcinfo, PsIdSearch *search)
{
	bytea	   *message = PG_GETARG_BYTEA_PP(0);
	text	   *customer_id = PG_GETARG_TEXT_PP(1);

	ps_id_search_start(search, VARDATA_ANY(message), VARSIZE_ANY_EXHDR(message),
					   VARDATA_ANY(customer_id), VARSIZE_ANY_EXHDR(customer_id));
	search->in_strings = PG_GETARG_BOOL(2);
}

PS_FUNCTION(ps_contains_id);
static Datum
ps_contains_id_checked(PG_FUNCTION_ARGS)
{
	PsIdSearch	search;

	start_search(fcinfo, &search);
	PG_RETURN_BOOL(ps_id_search_next(&search));
}

PS_FUNCTION(ps_redact_id);
static Datum
ps_redact_id_checked(PG_FUNCTION_ARGS)
{
	PsIdSearch	search;
	StringInfoData result;
	int			done = 0;

	start_search(fcinfo, &search);
	initStringInfo(&result);
	while (ps_id_search_next(&search))
	{
		appendBinaryStringInfo(&result, search.text +done, search.start - done);
		appendStringInfoString(&result, ERASED);
		done = search.end;
	}
	appendBinaryStringInfo(&result, search.text +done, search.len - done);
	PG_RETURN_BYTEA_P(cstring_to_text_with_len(result.data, result.len));
}

/* The customer of a message, also of one that is no valid event: a dead letter belongs to somebody, too. */
PS_FUNCTION(ps_message_customer);
static Datum
ps_message_customer_checked(PG_FUNCTION_ARGS)
{
	bytea	   *value = PG_GETARG_BYTEA_PP(0);
	PsMessage	message = {.value = VARDATA_ANY(value),.value_len = VARSIZE_ANY_EXHDR(value)};
	PsDecodeSettings settings = {DT_NOEND, 0, INT_MAX};
	PsEvent		event;
	const char *customer_id;

	(void) ps_event_decode(&message, &settings, &event);
	customer_id = event.customer_id ? event.customer_id : ps_find_customer_id(message.value, message.value_len);
	if (customer_id == NULL)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(customer_id));
}

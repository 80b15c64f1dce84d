/*
 * relay_state.c
 *	  A relay's transactions, its state in stat_sinks, and its pauses.
 */
#include "postgres.h"

#include "access/xact.h"
#include "common/pg_prng.h"
#include "pgstat.h"
#include "process/lease.h"
#include "sink/relay.h"
#include "store/locks.h"
#include "store/outbox.h"
#include "store/partition_catalog.h"
#include "store/process_counters.h"
#include "store/xact.h"
#include "utils/memutils.h"

#define MAX_BACKOFF_MS 10000
#define REST 3					/* times as long as the batch took */
#define MAX_REST_MS 3000

void
ps_relay_begin(PsRelay *relay)
{
	ps_transaction_start();
	ps_lease_wait_start(relay->stream_id);
	ps_lock_tables();
	ps_spi_begin();
}

void
ps_relay_commit(PsRelay *relay)
{
	ps_commit();
	MemoryContextSwitchTo(relay->turn_context);
	pgstat_report_stat(false);
}

/* Remembers the error that stat_sinks shows; NULL: none. */
static void
note_error(PsRelay *relay, const char *error)
{
	char	   *copy = error ? MemoryContextStrdup(relay->context, error) : NULL;

	if (relay->error != NULL)
		pfree(relay->error);
	relay->error = copy;
	if (error == NULL)
		relay->logged.n = 0;
}

/* The stream's name; its number until it could be read. */
static const char *
relay_stream_name(const PsRelay *relay)
{
	return relay->stream != NULL ? relay->stream->name : psprintf("%d", relay->stream_id);
}

void
ps_relay_show_well(PsRelay *relay, PsStreamState state)
{
	PsState		now = {state, NULL, NULL, -1};
	PsStateChange change;

	ps_outbox_change_state(relay->stream_id, relay->sink->kind, &now, false, &change);
	if (change.from == PS_STATE_RETRYING)
		ereport(LOG, (errmsg("stream \"%s\" delivers to its sink \"%s\" again, after %s", relay_stream_name(relay),
							 ps_sinks[relay->sink->kind].name, ps_state_log_duration(change.lasted_ms))));
	note_error(relay, NULL);
}

bool
ps_relay_shows(const PsRelay *relay, const char *error)
{
	return relay->error != NULL && strcmp(relay->error, error) == 0;
}

void
ps_relay_show_error(PsRelay *relay, const char *error, const char *hint, int64 next_attempt_ms)
{
	PsState		now = {PS_STATE_RETRYING, error, hint, next_attempt_ms};
	PsStateChange change;
	bool		news = ps_reason_is_new(&relay->logged, error);

	if (news)
		ereport(LOG, (errmsg("stream \"%s\" cannot deliver to its sink \"%s\": %s", relay_stream_name(relay),
							 ps_sinks[relay->sink->kind].name, error),
					  hint != NULL ? errhint("%s", hint) : 0));
	ps_relay_begin(relay);
	ps_outbox_change_state(relay->stream_id, relay->sink->kind, &now, news, &change);
	ps_process_count(relay->stream_id, ps_sinks[relay->sink->kind].name, news, next_attempt_ms >= 0);
	ps_relay_commit(relay);
	note_error(relay, error);
}

void
ps_relay_back_off(PsRelay *relay, const char *error, const char *hint)
{
	int64		backoff = Min(MAX_BACKOFF_MS, INT64CONST(500) << Min(relay->failures, 6));

	backoff += (int64) (pg_prng_double(&pg_global_prng_state) * backoff / 4);
	relay->failures++;
	relay->next_attempt = ps_moment_plus(ps_clock_now(), backoff);
	ereport(DEBUG1, (errmsg_internal("stream \"%s\" waits " INT64_FORMAT " ms before it tries its sink \"%s\" again, after %d failures in a row",
									 relay_stream_name(relay), backoff, ps_sinks[relay->sink->kind].name, relay->failures)));
	ps_relay_show_error(relay, error, hint, backoff);
}

void
ps_relay_rest(PsRelay *relay)
{
	PsMoment	now = ps_clock_now();
	int64		took_ms = (now - relay->taken_at) / 1000;

	if (!relay->drained && ps_stream_lag(relay->stream_id) > relay->stream->batch_size)
		relay->next_attempt = ps_moment_plus(now, Min(REST * took_ms, MAX_REST_MS));
}

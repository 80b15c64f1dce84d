/*
 * prune.c
 *	  Retention of window samples, within the caller's transaction. First it seals
 *	  expired open chunks, under their customers' locks. Then it rewrites expired
 *	  sealed chunks in place into one bucket per UTC day. It removes the chunks of
 *	  series whose last metric was dropped.
 *
 *	  It holds a lock that keeps metrics from changing. Otherwise it could take a series
 *	  that was created just now for one without metrics.
 */
#include "postgres.h"

#include <limits.h>

#include "apply/prune.h"
#include "executor/spi.h"
#include "store/chunk_store.h"
#include "store/history_partitions.h"
#include "store/locks.h"
#include "store/metric_catalog.h"
#include "store/profile_store.h"
#include "store/rule_catalog.h"
#include "store/shard_fence.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#define MAX_LOADS 3				/* of the rules, before pruning is left to the next call */

static int
prune_compare_keys(const void *a, const void *b)
{
	int64		x = *(const int64 *) a;
	int64		y = *(const int64 *) b;

	return x < y ? -1 : x > y;
}

/*
 * Locks the metrics until the transaction ends and returns them; the caller releases
 * them. NULL: the lock is not free and the caller does not wait, or older rules are
 * held, because an event is being applied.
 */
static const PsMetrics *
hold_metrics(bool wait)
{
	const PsRules *rules;

	if (!ps_metrics_lock(ShareLock, wait))
		return NULL;
	/* other rules may change while these are loaded: then they are loaded again */
	for (int tries = 0; tries < MAX_LOADS; tries++)
	{
		rules = ps_rules_hold();
		if (!ps_rules_are_stale())
			return &rules->metrics;
		ps_rules_release();
	}
	return NULL;
}

/*
 * Seals open chunks that have expired samples only, and removes those of series that
 * no metric reads. Returns how many samples it removed.
 */
static int64
seal_expired(const PsMetrics *metrics, TimestampTz now, int max_customers)
{
	PsStoredProfile **profiles = palloc(max_customers * sizeof(PsStoredProfile *));
	int			n = ps_profiles_find_expired(now, max_customers, profiles);
	int			present = 0;
	int64		forgotten = 0;
	int64	   *keys = palloc(Max(n, 1) * sizeof(int64));
	PsProfileTable *table;

	for (int i = 0; i < n; i++)
		keys[i] = ps_lock_key(profiles[i]->customer_id, strlen(profiles[i]->customer_id));
	qsort(keys, n, sizeof(int64), prune_compare_keys);
	ps_lock_customers(keys, n);

	/* a new snapshot: it must show what changed before we had the locks */
	PushActiveSnapshot(GetLatestSnapshot());
	table = ps_profiles_open();
	ps_profiles_load(table, profiles, n);
	for (int i = 0; i < n; i++)
	{
		PsChunk    *chunk;

		if (profiles[i]->profile.is_new)
			continue;			/* the profile is gone meanwhile */
		profiles[present++] = profiles[i];
		forgotten += ps_window_forget(&profiles[i]->profile.window, metrics);
		while ((chunk = ps_window_seal_expired(&profiles[i]->profile.window, metrics, now)) != NULL)
		{
			chunk->customer_id = profiles[i]->customer_id;
			ps_chunks_add(chunk);
		}
	}
	ps_profiles_save(table, profiles, present);
	ps_profiles_close(table);
	PopActiveSnapshot();
	return forgotten;
}

/* Folds, in each series. */
static int64
prune_fold(const PsMetrics *metrics, TimestampTz before, int max_chunks)
{
	int64		folded = 0;

	for (int i = 0; i < PS_BUILTIN_SERIES + metrics->nseries; i++)
	{
		uint32		series = i < PS_BUILTIN_SERIES ? i : metrics->series[i - PS_BUILTIN_SERIES].series;

		folded += ps_chunks_fold(ps_series_name(series), before - ps_series_window_us(metrics, series), max_chunks);
	}
	return folded;
}

/* Whether a name is that of a series that metrics read. */
static bool
is_read(const PsMetrics *metrics, const char *name)
{
	for (int i = 0; i < PS_BUILTIN_SERIES; i++)
		if (strcmp(name, ps_series_name(i)) == 0)
			return true;
	for (int i = 0; i < metrics->nseries; i++)
		if (strcmp(name, ps_series_name(metrics->series[i].series)) == 0)
			return true;
	return false;
}

/* Removes chunks of series that no metric reads, as far as they still have samples. */
static int64
prune_forget(const PsMetrics *metrics, int max_chunks)
{
	int64		forgotten = 0;

	for (char *name = ps_chunks_next_series(NULL); name != NULL; name = ps_chunks_next_series(name))
		if (!is_read(metrics, name))
			forgotten += ps_chunks_forget(name, max_chunks);
	return forgotten;
}

int64
ps_prune_chunks(TimestampTz before, int max_chunks)
{
	const PsMetrics *metrics = hold_metrics(false);
	int64		found = 0;

	if (metrics == NULL)
		return 0;
	PG_TRY();
	{
		found = prune_forget(metrics, max_chunks);
		if (!TIMESTAMP_IS_NOBEGIN(before))
			found += prune_fold(metrics, before, max_chunks);
	}
	PG_FINALLY();
	{
		ps_rules_release();
	}
	PG_END_TRY();
	return found;
}

/* What prunes all samples. */
typedef struct WholePrune
{
	const PsMetrics *metrics;
	TimestampTz now;
	int			max_customers;
} WholePrune;

static int64
prune_all(void *arg)
{
	const WholePrune *prune = arg;

	return seal_expired(prune->metrics, prune->now, prune->max_customers) +
		prune_fold(prune->metrics, prune->now, INT_MAX) + ps_chunks_forget_others(prune->metrics);
}

int64
ps_prune(TimestampTz now, int max_customers)
{
	WholePrune	prune = {hold_metrics(true), now, max_customers};
	int64		found = 0;

	if (prune.metrics == NULL)
		return 0;
	SPI_connect();
	PG_TRY();
	{
		(void) ps_history_prune(now);
		found = ps_each_shard(prune_all, &prune);
	}
	PG_FINALLY();
	{
		ps_rules_release();
	}
	PG_END_TRY();
	SPI_finish();
	return found;
}

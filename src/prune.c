/*
 * prune.c
 *	  Retention of window samples, within the caller's transaction: expired open
 *	  chunks are sealed under their customers' locks, then expired sealed chunks
 *	  are rewritten into one bucket per UTC day, in place.
 */
#include "postgres.h"

#include <limits.h>

#include "executor/spi.h"
#include "prune.h"
#include "store/chunk_store.h"
#include "store/lock.h"
#include "store/profile_store.h"
#include "utils/snapmgr.h"

static int
compare_keys(const void *a, const void *b)
{
	int64		x = *(const int64 *) a;
	int64		y = *(const int64 *) b;

	return x < y ? -1 : x > y;
}

/* Seals open chunks that hold nothing but expired samples. */
static void
seal_expired(TimestampTz now, int max_customers)
{
	PsStoredProfile **profiles = palloc(max_customers * sizeof(PsStoredProfile *));
	int			n = ps_profiles_find_expired(now, max_customers, profiles);
	int			present = 0;
	int64	   *keys = palloc(Max(n, 1) * sizeof(int64));

	for (int i = 0; i < n; i++)
		keys[i] = ps_lock_key(profiles[i]->customer_id, strlen(profiles[i]->customer_id));
	qsort(keys, n, sizeof(int64), compare_keys);
	ps_lock_customers(keys, n);

	/* what changed before we held the locks must be seen */
	PushActiveSnapshot(GetLatestSnapshot());
	ps_profiles_load(profiles, n);
	for (int i = 0; i < n; i++)
	{
		PsChunk    *chunk;

		if (profiles[i]->profile.is_new)
			continue;			/* gone meanwhile */
		profiles[present++] = profiles[i];
		while ((chunk = ps_window_seal_expired(&profiles[i]->profile.window, now)) != NULL)
		{
			chunk->customer_id = profiles[i]->customer_id;
			ps_chunks_add(&chunk, 1);
		}
	}
	ps_profiles_save(profiles, present);
	PopActiveSnapshot();
}

int64
ps_prune_chunks(TimestampTz before, int max_chunks)
{
	int64		folded = 0;

	for (int id = 0; id < PS_SERIES_COUNT; id++)
		folded += ps_chunks_fold(ps_series_name(id), before - ps_series_window_us(id), max_chunks);
	return folded;
}

int64
ps_prune(TimestampTz now, int max_customers)
{
	int64		folded;

	SPI_connect();
	seal_expired(now, max_customers);
	folded = ps_prune_chunks(now, INT_MAX);
	SPI_finish();
	return folded;
}

/*
 * window.h
 *	  The samples of one customer that windowed metrics read, as far as they are in
 *	  the profile's row.
 *
 *	  open chunk   a series' newest samples, in the profile row's window state
 *	  sealed chunk a full open chunk, moved to a row of window_chunks
 *	  totals       of a lifetime series, into which samples are folded instead
 */
#ifndef PS_WINDOW_H
#define PS_WINDOW_H

#include "core/metric.h"

#define PS_CHUNK_SAMPLES 64		/* an open chunk is sealed when it holds so many */
#define PS_WINDOW_BYTES 1200	/* or when the state outgrows this: TOAST would slow down each update of the row */

typedef struct PsSample
{
	TimestampTz at;
	Numeric		value;
} PsSample;

typedef struct PsSeries
{
	uint32		id;
	int			nsamples;
	int64		sealed_chunks;
	TimestampTz sealed_to;		/* newest sample in a sealed chunk, DT_NOBEGIN if none */
	char	   *bytes;			/* packed samples, the last one added first */
	int			len;
	int			room;			/* free bytes before them; 0: they are shared with the state */
	bool		is_lifetime;	/* it has totals instead of sealed chunks */
	const char *totals;			/* packed by core/totals */
	int			totals_len;		/* 0: no sample is folded yet */
} PsSeries;

/* The series of which the customer has samples, including those that no metric reads any more. */
typedef struct PsWindow
{
	PsSeries   *series;			/* sorted by id */
	int			nseries;
	int			capacity;
} PsWindow;

typedef struct PsChunk
{
	const char *customer_id;
	const char *series;
	int64		chunk_no;
	TimestampTz from_at;
	TimestampTz to_at;
	int64		count;
	Numeric		sum;
	Numeric		min;
	Numeric		max;
	bytea	   *samples;
	struct PsChunk *next;		/* one event may seal several chunks */
} PsChunk;

/* A copy of a chunk that lives longer than the profile. */
extern PsChunk *ps_chunk_copy(const PsChunk *chunk, MemoryContext context);

/* Unpacks a window state; false when the bytes are not one. */
extern bool ps_window_load(PsWindow *window, const char *data, int len);
extern bytea *ps_window_save(const PsWindow *window);

/* The series of that number; NULL when the customer has no samples of it. */
extern const PsSeries *ps_window_find(const PsWindow *window, uint32 id);

/* Adds a sample; value NULL stands for 1. Returns the chunk that it sealed, or NULL. */
extern PsChunk *ps_window_add(PsWindow *window, uint32 id, TimestampTz at, Numeric value);

/* The same for a lifetime series. The chunk that is returned is of another one. */
extern PsChunk *ps_window_add_lifetime(PsWindow *window, uint32 id, TimestampTz at, Numeric value);

/* Seals one open chunk whose samples are all older than every window that reads them. Returns it, or NULL: there is none. */
extern PsChunk *ps_window_seal_expired(PsWindow *window, const PsMetrics *metrics, TimestampTz now);

/* Removes the series that no metric reads; returns how many samples they had, where a series counts as at least one. */
extern int	ps_window_forget(PsWindow *window, const PsMetrics *metrics);

/* Finds one series in a packed state without unpacking the others; false: the bytes are no state. Sets *found. */
extern bool ps_window_read(const char *data, int len, uint32 id, PsSeries *series, bool *found);

/* Unpacks the samples of a state or a chunk in the order in which they were added; raises when the bytes are damaged. */
extern PsSample *ps_samples_unpack(const char *bytes, int len, int *nsamples);

/* A walk over packed samples, from the last one added to the first. */
typedef struct PsSampleWalk
{
	const char *next;
	const char *end;
	TimestampTz at;
	int64		amount;			/* the value is amount / 10^scale */
	int			scale;
	Numeric		value;			/* a value that is not so; else NULL */
	TimestampTz earlier;		/* how much earlier the next sample is */
} PsSampleWalk;

extern void ps_samples_walk(PsSampleWalk *walk, const char *bytes, int len);

/* Goes to the next sample; false: there is none. Raises when the bytes are damaged. */
extern bool ps_samples_next(PsSampleWalk *walk);

/* The value of the sample as a numeric. */
extern Numeric ps_sample_value(const PsSampleWalk *walk);

#endif							/* PS_WINDOW_H */

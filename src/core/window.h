/*
 * window.h
 *	  Windowed metrics of one customer: which there are, and the open samples
 *	  that travel in the profile row.
 *
 *	  series       timestamped values that one or more metrics read
 *	  metric       an aggregate over a window of a series
 *	  open chunk   a series' newest samples, in the profile row's window state
 *	  sealed chunk a full open chunk, moved to a row of window_chunks
 */
#ifndef PS_WINDOW_H
#define PS_WINDOW_H

#include "profile_stream.h"
#include "utils/numeric.h"

#define PS_CHUNK_SAMPLES 64		/* an open chunk is sealed when it holds so many */
#define PS_WINDOW_BYTES 1200	/* or when the whole state outgrows this: never TOAST a hot row */

typedef enum PsSeriesId
{
	PS_SERIES_TRANSACTIONS,
	PS_SERIES_LOGINS,
	PS_SERIES_SUPPORT_TICKETS,
	PS_SERIES_COUNT
} PsSeriesId;

typedef enum PsAggregate
{
	PS_AGGREGATE_COUNT,
	PS_AGGREGATE_SUM
} PsAggregate;

typedef struct PsMetric
{
	const char *name;
	PsSeriesId	series;
	PsAggregate aggregate;
	int			window_days;
} PsMetric;

typedef struct PsSample
{
	TimestampTz at;
	Numeric		value;
} PsSample;

typedef struct PsSeries
{
	int			nsamples;
	int64		sealed_chunks;
	TimestampTz sealed_to;		/* newest sample in a sealed chunk, DT_NOBEGIN if none */
	char	   *bytes;			/* packed samples */
	int			len;
	int			capacity;
} PsSeries;

typedef struct PsWindow
{
	PsSeries	series[PS_SERIES_COUNT];
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
} PsChunk;

/* Count and sum over [from_at, to_at], both ends included. */
typedef struct PsWindowValue
{
	int64		count;
	Numeric		sum;
} PsWindowValue;

extern const PsMetric *ps_metric_find(const char *name);
extern const char *ps_series_name(PsSeriesId series);
extern int64 ps_metric_window_us(const PsMetric *metric);
extern int64 ps_series_window_us(PsSeriesId series);

/* Unpacks a window state; false when the bytes are not one. */
extern bool ps_window_load(PsWindow *window, const char *data, int len);
extern bytea *ps_window_save(const PsWindow *window);

/* Adds a sample; value NULL stands for 1. Returns the chunk that it sealed, or NULL. */
extern PsChunk *ps_window_add(PsWindow *window, PsSeriesId series,
							  TimestampTz at, Numeric value);

/* Seals open chunks all of whose samples are older than their window; returns the next or NULL. */
extern PsChunk *ps_window_seal_expired(PsWindow *window, TimestampTz now);

/* Samples as packed in a state or a chunk; raises when the bytes are damaged. */
extern PsSample *ps_samples_unpack(const char *bytes, int len, int *nsamples);

extern void ps_window_value_init(PsWindowValue *value);
extern void ps_window_value_add(PsWindowValue *value, int64 count, Numeric sum);
extern void ps_window_value_add_samples(PsWindowValue *value, const char *bytes, int len,
										TimestampTz from_at, TimestampTz to_at);

#endif							/* PS_WINDOW_H */

/*
 * metric.h
 *	  Metrics, built in or created by users; the series that they read; and the
 *	  feeds that make samples of events.
 *
 *	  series       timestamped values that one or more metrics read
 *	  metric       an aggregate over a window of a series
 *	  feed         how an event of a type becomes a sample of a series
 */
#ifndef PS_METRIC_H
#define PS_METRIC_H

#include "core/calendar.h"
#include "core/filter.h"

/* The built-in series. Series of users have numbers from table metric_series, which are never reused. */
typedef enum PsSeriesId
{
	PS_SERIES_TRANSACTIONS,
	PS_SERIES_LOGINS,
	PS_SERIES_SUPPORT_TICKETS,
	PS_BUILTIN_SERIES
} PsSeriesId;

typedef enum PsAggregate
{
	/* count, sum, least and greatest value of chunks are enough for these */
	PS_AGGREGATE_COUNT,
	PS_AGGREGATE_SUM,
	PS_AGGREGATE_AVG,
	PS_AGGREGATE_MIN,
	PS_AGGREGATE_MAX,
	/* and these read samples */
	PS_AGGREGATE_DISTINCT,
	PS_AGGREGATE_FIRST,			/* the sample with the least time; of several, the one that arrived first */
	PS_AGGREGATE_LAST,			/* the sample with the greatest time; of several, the one that arrived last */
	PS_AGGREGATE_PERCENTILE,	/* as percentile_cont() interpolates, but exact */
	PS_AGGREGATE_MEDIAN,		/* percentile of 0.5 */
	PS_AGGREGATE_STDDEV			/* as stddev_samp() */
} PsAggregate;

typedef struct PsMetric
{
	const char *name;
	uint32		series;
	PsAggregate aggregate;
	Numeric		fraction;		/* of a percentile: 0 to 1; else NULL */
	int64		window_us;		/* of a period the longest it can be; of a lifetime 0 */
	PsPeriod	period;			/* the window begins with it */
	const char *time_zone;		/* of a day, week or month; else NULL */
	pg_tz	   *zone;			/* of that name; NULL: there is none any more */
} PsMetric;

/* A series and the longest window of the metrics that read it. */
typedef struct PsSeriesWindow
{
	uint32		series;
	int64		window_us;
} PsSeriesWindow;

/* The metrics of users. */
typedef struct PsMetrics
{
	PsMetric   *metrics;		/* sorted by name, in the order of strcmp() */
	int			nmetrics;
	PsSeriesWindow *series;		/* sorted by number */
	int			nseries;
} PsMetrics;

typedef struct PsFeed
{
	uint32		series;
	const char *value_path_text;	/* NULL: each event is a sample of value 1 */
	PsPath		value_path;
	bool		is_distinct;	/* the sample is a hash of the value */
	bool		is_lifetime;	/* the series has totals */
	PsFilter	filter;
} PsFeed;

/* The sample that a feed makes of an event. */
typedef struct PsFeedSample
{
	bool		is_there;		/* false: the filter or a missing value leaves the event out */
	Numeric		value;			/* NULL: 1 */
} PsFeedSample;

/* Finds a metric by name; NULL when there is none. */
extern const PsMetric *ps_metric_find(const PsMetrics *metrics, const char *name);

/* The built-in metrics. */
extern const PsMetric *ps_metric_builtins(int *n);

/* Finds an aggregate by name; false when there is none. */
extern bool ps_aggregate_find(const char *name, PsAggregate *aggregate);

/* The names of all aggregates, for people. */
extern const char *ps_aggregate_names(void);

/* Whether count, sum, least and greatest value of whole chunks are enough, so that their samples need not be read. */
static inline bool
ps_aggregate_takes_sums(PsAggregate aggregate)
{
	return aggregate <= PS_AGGREGATE_MAX;
}

/* Whether the samples count one by one, in any order. */
static inline bool
ps_aggregate_takes_all(PsAggregate aggregate)
{
	return aggregate == PS_AGGREGATE_DISTINCT || aggregate >= PS_AGGREGATE_PERCENTILE;
}

/* Whether the value is that of one sample, at the begin or the end of the window. */
static inline bool
ps_aggregate_takes_outermost(PsAggregate aggregate)
{
	return aggregate == PS_AGGREGATE_FIRST || aggregate == PS_AGGREGATE_LAST;
}

/* Whether totals of a lifetime are enough: nothing of the samples is needed but sums, extremes, first and last. */
static inline bool
ps_aggregate_has_lifetime(PsAggregate aggregate)
{
	return ps_aggregate_takes_sums(aggregate) || ps_aggregate_takes_outermost(aggregate);
}

/* The first moment of a metric's window that ends at a moment. */
extern TimestampTz ps_metric_from(const PsMetric *metric, TimestampTz as_of);

/* The name of a series in window_chunks.metric. */
extern const char *ps_series_name(uint32 series);

/* The longest window of the metrics that read a series; -1: none does. */
extern int64 ps_series_window_us(const PsMetrics *metrics, uint32 series);

/* Compiles a feed whose texts are set; returns what is wrong with it, or NULL. */
extern const char *ps_feed_init(PsFeed *feed);

/* Makes the sample of an event; returns why the event is refused, or NULL. */
extern PsReject *ps_feed_read(const PsFeed *feed, const PsEvent *event, PsFeedSample *sample);

#endif							/* PS_METRIC_H */

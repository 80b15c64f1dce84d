/*
 * metric_catalog.h
 *	  The tables with the metrics of users and their series.
 */
#ifndef PS_METRIC_CATALOG_H
#define PS_METRIC_CATALOG_H

#include "core/event_rules.h"
#include "storage/lockdefs.h"
#include "utils/timestamp.h"

#define PS_MAX_SERIES 250

/* A metric as create_metric() defines it. */
typedef struct PsMetricDefinition
{
	PsMetric	metric;			/* ps_metrics_add() sets its series */
	const char *aggregate;
	Interval	window;			/* of a period the longest it can be */
	const char *period;			/* NULL: the window has a fixed length */
	PsTextSet	event_types;
	PsFeed		feed;
} PsMetricDefinition;

/* Adds metrics, series and feeds to rules, in the current context. */
extern void ps_metrics_load(PsRules *rules);

/* Locks the definitions until the transaction ends; false when it must not wait and the lock is not free. */
extern bool ps_metrics_lock(LOCKMODE mode, bool wait);

/* Adds a metric to a series that fits, or to a new one; false when the name exists. Needs the lock. */
extern bool ps_metrics_add(PsMetricDefinition *definition);

/* Removes a metric, and its series with the last metric; false when the name does not exist. Needs the lock. */
extern bool ps_metrics_remove(const char *name);

/* Whether the view profiles has a column of that name; built-in metrics are columns too. */
extern bool ps_profiles_have_column(const char *name);

#endif							/* PS_METRIC_CATALOG_H */

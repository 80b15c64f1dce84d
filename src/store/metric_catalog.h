/*
 * metric_catalog.h
 *	  The metrics of users and their series, in tables.
 */
#ifndef PS_METRIC_CATALOG_H
#define PS_METRIC_CATALOG_H

#include "core/event_rules.h"
#include "storage/lockdefs.h"
#include "utils/timestamp.h"

#define PS_MAX_SERIES 250

/* A metric as it is created. */
typedef struct PsMetricDefinition
{
	PsMetric	metric;			/* its series is set when it is added */
	const char *aggregate;
	Interval   *window;
	const char *event_type;
	PsFeed		feed;
} PsMetricDefinition;

/* Adds metrics, series and feeds to rules that are loaded; allocates in the current context. */
extern void ps_metrics_load(PsRules *rules);

/* Locks the definitions until the transaction ends; false when that would have to wait and shall not. */
extern bool ps_metrics_lock(LOCKMODE mode, bool wait);

/* Adds a metric to a series of its own or of others that fits; false when there is one of that name. Needs the lock. */
extern bool ps_metrics_add(PsMetricDefinition *definition);

/* Removes a metric, and its series with the last one; false when there is none of that name. Needs the lock. */
extern bool ps_metrics_remove(const char *name);

/* Whether profiles have a column of that name, built-in metrics among them. */
extern bool ps_metrics_is_column(const char *name);

#endif							/* PS_METRIC_CATALOG_H */

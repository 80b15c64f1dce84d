/*
 * metric_values.h
 *	  The values of metrics of a profile, for functions that read several of them.
 */
#ifndef PS_METRIC_VALUES_H
#define PS_METRIC_VALUES_H

#include "postgres.h"

#include "core/window_value.h"
#include "fmgr.h"
#include "utils/jsonb.h"

/* get_profile(): serve_profile() calls it, too. */
extern PGDLLEXPORT Datum ps_get_profile(PG_FUNCTION_ARGS);

/* Finds a metric or raises. The result is valid until the next call of ps_rules_get(). */
extern const PsMetric *ps_find_metric(const text *name);

/* Unpacks the column window_state, whose bytes must live as long as the window; raises when it is damaged. */
extern void ps_load_window(PsWindow *window, bytea *state);

/* Raises unless the moment is finite. */
extern void ps_check_moment(TimestampTz as_of);

/* The value of a metric at a moment; NULL: none. in_rebuild: of a profile in the rebuild schema. */
extern Numeric ps_value_as_of(const PsWindow *window, const PsMetric *metric, const text *customer_id, TimestampTz as_of, bool in_rebuild);

/* Pushes the values of all metrics that users have created, as an object. */
extern JsonbValue *ps_push_metric_values(JsonbParseState **state, const PsWindow *window, const text *customer_id, TimestampTz as_of, bool in_rebuild);

#endif							/* PS_METRIC_VALUES_H */

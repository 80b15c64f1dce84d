/*
 * metrics.c
 *	  create_metric() and drop_metric(): the checks of their arguments. The store writes
 *	  the rows (store/metric_catalog.c).
 */
#include "postgres.h"

#include "api/caller.h"
#include "core/numeric_call.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "store/extension.h"
#include "store/metric_catalog.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

#define MAX_WINDOW_DAYS 400

/* Whether a name can be a column, and a key that JSON paths need not quote. */
static bool
is_name(const char *name)
{
	if (name[0] == '\0' || strlen(name) >= NAMEDATALEN || (name[0] >= '0' && name[0] <= '9'))
		return false;
	for (const char *c = name; *c != '\0'; c++)
		if ((*c < 'a' || *c > 'z') && (*c < 'A' || *c > 'Z') && (*c < '0' || *c > '9') && *c != '_')
			return false;
	return true;
}

static void
check_name(const char *name)
{
	ps_check_argument(is_name(name), "the name of a metric must have 1 to 63 letters, digits and underscores, and begin with no digit");
	ps_check_no_column(name);
}

/* Sets a window of fixed length. */
static void
set_window(PsMetricDefinition *definition, const Interval *window)
{
	PsMetric   *metric = &definition->metric;

	definition->window = *window;
	if (window->month != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the window of a metric must not have months or years"),
				 errhint("They have no fixed length: write 30 days, or 365 days. A month of the calendar is period => 'month'.")));
	metric->window_us = ps_interval_us(&definition->window);
	ps_check_argument(metric->window_us >= USECS_PER_MINUTE && metric->window_us <= MAX_WINDOW_DAYS * USECS_PER_DAY,
					  "the window of a metric must be between 1 minute and " CppAsString2(MAX_WINDOW_DAYS) " days");
}

/* Sets a window that begins with a period. */
static void
set_period(PsMetricDefinition *definition, const char *period, const char *time_zone)
{
	PsMetric   *metric = &definition->metric;

	if (!ps_period_find(period, &metric->period))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("period \"%s\" is not known", period),
				 errhint("Periods are day, week, month and lifetime.")));
	definition->period = period;
	definition->window.day = ps_period_days(metric->period);
	if (metric->period != PS_PERIOD_LIFETIME)
	{
		metric->time_zone = time_zone != NULL ? time_zone : "UTC";
		metric->zone = ps_zone_find(metric->time_zone, false);
	}
	else if (!ps_aggregate_has_lifetime(metric->aggregate))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("aggregate %s has no lifetime", definition->aggregate),
				 errhint("It needs samples, which are not kept for ever. Give a window, as in \"window\" => '400 days'.")));
	metric->window_us = ps_interval_us(&definition->window);
}

/* Reads the window or the period; the aggregate is known. */
static void
get_window(FunctionCallInfo fcinfo, PsMetricDefinition *definition)
{
	char	   *period = ps_get_string(fcinfo, 12);
	char	   *time_zone = ps_get_string(fcinfo, 13);

	ps_check_argument(PG_ARGISNULL(2) != (period == NULL), "a metric needs either a \"window\", such as '30 days', or a period, such as 'month'");
	ps_check_argument(time_zone == NULL || (period != NULL && strcmp(period, "lifetime") != 0),
					  "a time_zone is for the periods day, week and month");
	if (period != NULL)
		set_period(definition, period, time_zone);
	else
		set_window(definition, PG_GETARG_INTERVAL_P(2));
	definition->feed.is_lifetime = definition->metric.period == PS_PERIOD_LIFETIME;
}

/* The fraction of a percentile; NULL for other aggregates, which have none. */
static Numeric
get_fraction(FunctionCallInfo fcinfo, PsAggregate aggregate, const char *name)
{
	Numeric		fraction = PG_ARGISNULL(8) ? NULL : PG_GETARG_NUMERIC(8);

	if ((fraction != NULL) != (aggregate == PS_AGGREGATE_PERCENTILE))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg(fraction == NULL ? "aggregate %s needs a fraction" : "aggregate %s takes no fraction", name),
				 errhint("Write aggregate => 'percentile', fraction => 0.95.")));
	if (fraction == NULL)
		return NULL;
	ps_check_argument(ps_numeric_compare(fraction, int64_to_numeric(0)) >= 0 && ps_numeric_compare(fraction, int64_to_numeric(1)) <= 0,
					  "the fraction of a percentile must be between 0 and 1");
	return fraction;
}

/* Reads the definition. */
static PsMetricDefinition
get_definition(FunctionCallInfo fcinfo)
{
	PsMetricDefinition definition = {
		.feed = {.value_path_text = ps_get_string(fcinfo, 3),
		.filter = {.path_text = ps_get_string(fcinfo, 5),.value = ps_get_string(fcinfo, 6),.operator_text = ps_get_string(fcinfo, 9)}}
	};
	const char *wrong;

	ps_check_argument(!PG_ARGISNULL(0), "a metric needs a name");
	definition.metric.name = ps_get_string(fcinfo, 0);
	check_name(definition.metric.name);
	definition.event_types = ps_get_event_types(fcinfo, 1, 11);
	definition.feed.filter.sources = ps_get_texts(fcinfo, 10, "sources");
	definition.aggregate = PG_ARGISNULL(4) ? "" : ps_get_string(fcinfo, 4);
	if (!ps_aggregate_find(definition.aggregate, &definition.metric.aggregate))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("aggregate \"%s\" is not known", definition.aggregate),
				 errhint("Aggregates are %s.", ps_aggregate_names())));
	get_window(fcinfo, &definition);
	definition.metric.fraction = get_fraction(fcinfo, definition.metric.aggregate, definition.aggregate);
	definition.feed.is_distinct = definition.metric.aggregate == PS_AGGREGATE_DISTINCT;
	wrong = ps_feed_init(&definition.feed);
	if (wrong == NULL && definition.feed.value_path_text == NULL && definition.metric.aggregate != PS_AGGREGATE_COUNT)
		wrong = psprintf("aggregate %s needs a value_path, such as $.amount", definition.aggregate);
	ps_check_argument(wrong == NULL, wrong);
	return definition;
}

PS_FUNCTION(ps_create_metric);
static Datum
ps_create_metric_checked(PG_FUNCTION_ARGS)
{
	PsMetricDefinition definition = get_definition(fcinfo);

	SPI_connect();
	(void) ps_metrics_lock(ShareRowExclusiveLock, true);
	if (!ps_metrics_add(&definition))
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("metric \"%s\" already exists", definition.metric.name),
				 errhint("drop_metric() removes it.")));
	SPI_finish();
	if (!PG_ARGISNULL(7))
		(void) DirectFunctionCall2(ps_rebuild_start, PG_GETARG_DATUM(7), BoolGetDatum(false));
	PG_RETURN_VOID();
}

PS_FUNCTION(ps_drop_metric);
static Datum
ps_drop_metric_checked(PG_FUNCTION_ARGS)
{
	char	   *name = text_to_cstring(PG_GETARG_TEXT_PP(0));

	SPI_connect();
	(void) ps_metrics_lock(ShareRowExclusiveLock, true);
	if (!ps_metrics_remove(name))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("metric \"%s\" does not exist", name),
				 errhint("The view definitions lists those that can be dropped.")));
	SPI_finish();
	PG_RETURN_VOID();
}

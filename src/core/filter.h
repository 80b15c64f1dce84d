/*
 * filter.h
 *	  Which events of a type an attribute map or a metric takes: those of some
 *	  sources, and those with a value in the payload that compares as wanted.
 */
#ifndef PS_FILTER_H
#define PS_FILTER_H

#include "core/path.h"
#include "core/text_set.h"
#include "utils/numeric.h"

typedef enum PsComparison
{
	PS_COMPARISON_EQ,
	PS_COMPARISON_NE,
	PS_COMPARISON_LT,
	PS_COMPARISON_LE,
	PS_COMPARISON_GT,
	PS_COMPARISON_GE,
	PS_COMPARISON_IN
} PsComparison;

typedef struct PsFilter
{
	PsTextSet	sources;		/* empty: events of any source */
	const char *path_text;		/* NULL: no value is compared */
	const char *operator_text;	/* name of the comparison */
	const char *value;			/* what the value is compared with, as the user wrote it */
	PsPath		path;
	PsComparison comparison;
	Numeric		number;			/* an order is that of numbers; NULL: that of texts, by their bytes */
	PsTextSet	values;			/* of IN */
} PsFilter;

#define PS_MAX_FILTER_VALUES 100	/* of IN, and sources */

/* Compiles a path of at least one key, if there is one; returns what is wrong with it, or NULL. */
extern const char *ps_filter_init_path(const char *text, PsPath *path);

/* Compiles a filter whose sources and texts are set; returns what is wrong with it, or NULL. Raises for an array that is none. */
extern const char *ps_filter_init(PsFilter *filter);

/* Whether an event passes. One without the value, or without a source where sources are asked for, does not. */
extern bool ps_filter_passes(const PsFilter *filter, const PsEvent *event);

#endif							/* PS_FILTER_H */

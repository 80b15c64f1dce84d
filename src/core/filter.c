/*
 * filter.c
 *	  Filters of attribute maps and metrics. What cannot be compared does not pass: a
 *	  filter never refuses an event.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "common/jsonapi.h"
#include "core/filter.h"
#include "core/numeric_call.h"
#include "core/value.h"
#include "fmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"

#define HALF_A_FILTER "a filter needs both filter_path and filter_value"

static const char *const comparisons[] = {
	[PS_COMPARISON_EQ] = "=",
	[PS_COMPARISON_NE] = "<>",
	[PS_COMPARISON_LT] = "<",
	[PS_COMPARISON_LE] = "<=",
	[PS_COMPARISON_GT] = ">",
	[PS_COMPARISON_GE] = ">=",
	[PS_COMPARISON_IN] = "in"
};

const char *
ps_filter_init_path(const char *text, PsPath *path)
{
	const char *wrong;

	path->nkeys = 0;
	if (text == NULL)
		return NULL;
	wrong = ps_path_parse(text, path);
	if (wrong == NULL && path->nkeys == 0)
		wrong = "leads to no value";
	return wrong == NULL ? NULL : psprintf("\"%s\" %s", text, wrong);
}

/* Reads the array of texts that IN compares with. */
static const char *
init_values(PsFilter *filter)
{
	Datum		array = OidInputFunctionCall(F_ARRAY_IN, unconstify(char *, filter->value), TEXTOID, -1);
	Datum	   *elements;
	bool	   *nulls;
	int			n;
	const char **texts;

	deconstruct_array(DatumGetArrayTypeP(array), TEXTOID, -1, false, TYPALIGN_INT, &elements, &nulls, &n);
	if (n < 1 || n > PS_MAX_FILTER_VALUES)
		return "filter_value must have 1 to " CppAsString2(PS_MAX_FILTER_VALUES) " elements when filter_operator is in";
	texts = palloc(n * sizeof(char *));
	for (int i = 0; i < n; i++)
	{
		if (nulls[i])
			return "filter_value must have no null element";
		texts[i] = TextDatumGetCString(elements[i]);
	}
	filter->values = ps_text_set_make(texts, n);
	return NULL;
}

/* Reads a value that other values are more or less than. */
static void
init_number(PsFilter *filter)
{
	PsField		field = {"filter_value", PS_JSON_STRING, filter->value, strlen(filter->value)};

	/* what is no number is a text */
	(void) ps_value_read_number(&field, field.name, &filter->number);
}

const char *
ps_filter_init(PsFilter *filter)
{
	const char *wrong = ps_filter_init_path(filter->path_text, &filter->path);
	int			i;

	filter->number = NULL;
	if (wrong == NULL && (filter->path_text == NULL) != (filter->value == NULL))
		wrong = HALF_A_FILTER;
	if (wrong != NULL)
		return wrong;
	for (i = 0; i < lengthof(comparisons); i++)
		if (filter->operator_text != NULL && strcmp(filter->operator_text, comparisons[i]) == 0)
			break;
	if (i == lengthof(comparisons))
		return "filter_operator must be =, <>, <, <=, >, >= or in";
	filter->comparison = i;
	if (filter->path_text == NULL)
		return filter->comparison == PS_COMPARISON_EQ ? NULL : HALF_A_FILTER;
	if (filter->comparison == PS_COMPARISON_IN)
		return init_values(filter);
	if (filter->comparison != PS_COMPARISON_EQ && filter->comparison != PS_COMPARISON_NE)
		init_number(filter);
	return NULL;
}

/* Orders a field and the filter's value; false: they cannot be compared. */
static bool
filter_order(const PsFilter *filter, const PsField *field, int *order)
{
	Numeric		number;

	if (filter->number == NULL)
	{
		*order = strcmp(field->text, filter->value);
		return field->type == PS_JSON_STRING;
	}
	if (ps_value_read_number(field, filter->path_text, &number) != NULL || number == NULL)
		return false;
	*order = ps_numeric_compare(number, filter->number);
	return true;
}

static bool
filter_compare(const PsFilter *filter, const PsField *field)
{
	int			order;

	switch (filter->comparison)
	{
		case PS_COMPARISON_EQ:
			return strcmp(field->text, filter->value) == 0;
		case PS_COMPARISON_NE:
			return strcmp(field->text, filter->value) != 0;
		case PS_COMPARISON_IN:
			return ps_text_set_has(&filter->values, field->text);
		case PS_COMPARISON_LT:
			return filter_order(filter, field, &order) && order < 0;
		case PS_COMPARISON_LE:
			return filter_order(filter, field, &order) && order <= 0;
		case PS_COMPARISON_GT:
			return filter_order(filter, field, &order) && order > 0;
		case PS_COMPARISON_GE:
			return filter_order(filter, field, &order) && order >= 0;
	}
	return false;
}

bool
ps_filter_passes(const PsFilter *filter, const PsEvent *event)
{
	PsField		field;

	if (filter->sources.n > 0 && (event->source == NULL || !ps_text_set_has(&filter->sources, event->source)))
		return false;
	if (filter->path_text == NULL)
		return true;
	field = ps_path_find(event, &filter->path);
	return (field.type == PS_JSON_STRING || field.type == PS_JSON_NUMBER || field.type == PS_JSON_BOOLEAN) &&
		filter_compare(filter, &field);
}

/*
 * event_types.c
 *	  Looks for the type of an event among those that a stream takes.
 */
#include "postgres.h"

#include "core/event_types.h"

static int
event_types_compare(const void *a, const void *b)
{
	return strcmp(*(char *const *) a, *(char *const *) b);
}

void
ps_event_types_sort(PsEventTypes *types)
{
	int			n = 0;

	qsort(types->names, types->n, sizeof(char *), event_types_compare);
	for (int i = 0; i < types->n; i++)
		if (n == 0 || strcmp(types->names[n - 1], types->names[i]) != 0)
			types->names[n++] = types->names[i];
	types->n = n;
}

bool
ps_event_types_have(const PsEventTypes *types, const char *name)
{
	return bsearch(&name, types->names, types->n, sizeof(char *), event_types_compare) != NULL;
}

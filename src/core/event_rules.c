/*
 * event_rules.c
 *	  Finds the rules of an event type.
 */
#include "postgres.h"

#include "core/event_rules.h"

/* Index of an event type in the sorted array; where it would be inserted when it is not found. */
static int
event_rules_find_place(const PsRules *rules, const char *event_type, bool *found)
{
	int			low = 0;
	int			high = rules->ntypes;

	*found = false;
	while (low < high)
	{
		int			middle = (low + high) / 2;
		int			order = strcmp(event_type, rules->of_types[middle].event_type);

		if (order == 0)
		{
			*found = true;
			return middle;
		}
		if (order < 0)
			high = middle;
		else
			low = middle + 1;
	}
	return low;
}

const PsEventRules *
ps_rules_find(const PsRules *rules, const char *event_type)
{
	bool		found;
	int			place = event_rules_find_place(rules, event_type, &found);

	return found ? &rules->of_types[place] : NULL;
}

PsFunction *
ps_rules_decoder(const PsRules *rules, int stream_id)
{
	for (int i = 0; i < rules->ndecoders; i++)
		if (rules->decoders[i].stream_id == stream_id)
			return rules->decoders[i].function;
	return NULL;
}

int
ps_rules_current_version(const PsEventRules *of_type)
{
	return of_type == NULL || of_type->nupcasters == 0 ? 1 : of_type->upcasters[of_type->nupcasters - 1].from_version + 1;
}

int
ps_rules_find_upcaster(const PsEventRules *of_type, int version)
{
	int			steps = ps_rules_current_version(of_type) - version;

	/* a chain without a gap ends the array, with one upcaster for each step */
	if (steps <= 0 || steps > of_type->nupcasters ||
		of_type->upcasters[of_type->nupcasters - steps].from_version != version)
		return -1;
	return of_type->nupcasters - steps;
}

PsEventRules *
ps_rules_of_type(PsRules *rules, const char *event_type)
{
	bool		found;
	int			place = event_rules_find_place(rules, event_type, &found);
	PsEventRules *of_type;

	if (found)
		return &rules->of_types[place];
	if (rules->of_types == NULL)
		rules->of_types = palloc(sizeof(PsEventRules));
	else
		rules->of_types = repalloc(rules->of_types, (rules->ntypes + 1) * sizeof(PsEventRules));
	of_type = &rules->of_types[place];
	memmove(of_type + 1, of_type, (rules->ntypes++ - place) * sizeof(PsEventRules));
	memset(of_type, 0, sizeof(PsEventRules));
	of_type->event_type = event_type;
	return of_type;
}

/*
 * rules.h
 *	  What users registered for their event types, compiled: what an event of each
 *	  type does beside its built-in handler. Loaded by store/rules, and passed on
 *	  to whoever reads and applies events.
 */
#ifndef PS_RULES_H
#define PS_RULES_H

#include "core/attribute_map.h"
#include "core/metric.h"

/* Rules of one event type, in the order in which they apply. */
typedef struct PsEventRules
{
	const char *event_type;
	PsAttributeMap *maps;
	int			nmaps;
	PsFeed	   *feeds;			/* of metrics */
	int			nfeeds;
} PsEventRules;

typedef struct PsRules
{
	PsEventRules *of_types;		/* by event type, as strcmp() orders them */
	int			ntypes;
	PsMetrics	metrics;
} PsRules;

/* The rules of an event type; NULL when it has none. */
extern const PsEventRules *ps_rules_find(const PsRules *rules, const char *event_type);

/* Those of an event type, empty ones when it had none, to add to; they stay where they are until the next call. */
extern PsEventRules *ps_rules_of_type(PsRules *rules, const char *event_type);

#endif							/* PS_RULES_H */

/*
 * event_rules.h
 *	  What users registered for their event types, compiled: what an event of each
 *	  type does beside its built-in handler. Loaded by store/rules, and passed on
 *	  to whoever reads and applies events.
 */
#ifndef PS_EVENT_RULES_H
#define PS_EVENT_RULES_H

#include "core/attribute_map.h"
#include "core/metric.h"

#define PS_MAX_SCHEMA_VERSION 10000

/* A function that a user registered; only who calls it knows more: store/function.h */
typedef struct PsFunction PsFunction;

/* Raises the payload of an event from a version to the next. */
typedef struct PsUpcaster
{
	int			from_version;
	PsFunction *function;
} PsUpcaster;

/* Rules of one event type, in the order in which they apply. */
typedef struct PsEventRules
{
	const char *event_type;
	PsAttributeMap *maps;
	int			nmaps;
	PsFeed	   *feeds;			/* of metrics */
	int			nfeeds;
	PsFunction **handlers;		/* after the built-in one, maps and feeds */
	int			nhandlers;
	PsUpcaster *upcasters;		/* by version */
	int			nupcasters;
} PsEventRules;

struct PsRules
{
	PsEventRules *of_types;		/* by event type, as strcmp() orders them */
	int			ntypes;
	PsMetrics	metrics;
};

/* The rules of an event type; NULL when it has none. */
extern const PsEventRules *ps_rules_find(const PsRules *rules, const char *event_type);

/* The version that events of a type are raised to. */
extern int	ps_rules_current_version(const PsEventRules *of_type);

/* Where the upcasters of a version begin that can be raised to the current one; -1: it cannot. */
extern int	ps_rules_find_upcaster(const PsEventRules *of_type, int version);

/* Those of an event type, empty ones when it had none, to add to; they stay where they are until the next call. */
extern PsEventRules *ps_rules_of_type(PsRules *rules, const char *event_type);

#endif							/* PS_EVENT_RULES_H */

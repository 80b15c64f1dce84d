/*
 * event_rules.h
 *	  Rules: what users registered for event types, beside the built-in handlers.
 *	  store/rule_catalog loads and compiles them; all who read or apply events get
 *	  them as an argument, because core/ does not read tables.
 */
#ifndef PS_EVENT_RULES_H
#define PS_EVENT_RULES_H

#include "core/attribute_map.h"
#include "core/metric.h"

#define PS_MAX_SCHEMA_VERSION 10000

/* A function of a user; only store/function knows what is in it */
typedef struct PsFunction PsFunction;

/* A function that converts the payload of an event from one schemaVersion to the next. */
typedef struct PsUpcaster
{
	int			from_version;
	PsFunction *function;
} PsUpcaster;

/* A function that makes events of the messages of a stream. */
typedef struct PsDecoder
{
	int			stream_id;
	PsFunction *function;
} PsDecoder;

/* Rules of one event type, in the order in which they apply. */
typedef struct PsEventRules
{
	const char *event_type;
	PsAttributeMap *maps;
	int			nmaps;
	PsFeed	   *feeds;			/* samples for metrics */
	int			nfeeds;
	PsFunction **handlers;		/* called after the built-in handler, maps and feeds */
	int			nhandlers;
	PsUpcaster *upcasters;		/* sorted by version */
	int			nupcasters;
} PsEventRules;

struct PsRules
{
	PsEventRules *of_types;		/* sorted by event type, in the order of strcmp() */
	int			ntypes;
	PsMetrics	metrics;
	PsDecoder  *decoders;
	int			ndecoders;
};

/* The rules of an event type; NULL when it has none. */
extern const PsEventRules *ps_rules_find(const PsRules *rules, const char *event_type);

/* The decoder of a stream; NULL: it has none. */
extern PsFunction *ps_rules_decoder(const PsRules *rules, int stream_id);

/* The version to which upcasters convert events of a type; 1 when it has none. */
extern int	ps_rules_current_version(const PsEventRules *of_type);

/* Index of the first upcaster for events of a version; -1: no chain leads from it to the current version. */
extern int	ps_rules_find_upcaster(const PsEventRules *of_type, int version);

/* The rules of an event type, to add to them; made when it has none. The pointer is valid until the next call. */
extern PsEventRules *ps_rules_of_type(PsRules *rules, const char *event_type);

#endif							/* PS_EVENT_RULES_H */

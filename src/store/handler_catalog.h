/*
 * handler_catalog.h
 *	  Handlers and upcasters as they are registered: the tables event_handlers and
 *	  event_upcasters. All need SPI.
 */
#ifndef PS_HANDLER_CATALOG_H
#define PS_HANDLER_CATALOG_H

#include "core/event_rules.h"

/* Adds all that are registered to the rules, in the current context. */
extern void ps_handlers_load(PsRules *rules);
extern void ps_upcasters_load(PsRules *rules);

/* Registers one; false when it is there already. */
extern bool ps_handlers_add(const char *event_type, const char *function, Oid owner, int priority);
extern bool ps_upcasters_add(const char *event_type, int from_version, const char *function, Oid owner);

/* A function as it was registered. */
typedef struct PsRegistered
{
	const char *function;
	Oid			owner;			/* at that time; it may be gone */
	bool		confirmed;
} PsRegistered;

/* A handler, an upcaster; false: there is no such one. */
extern bool ps_handlers_find(const char *event_type, const char *function, PsRegistered *registered);
extern bool ps_upcasters_find(const char *event_type, int from_version, PsRegistered *registered);

extern void ps_handlers_remove(const char *event_type, const char *function);
extern void ps_upcasters_remove(const char *event_type, int from_version);

#endif							/* PS_HANDLER_CATALOG_H */

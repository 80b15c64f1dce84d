/*
 * handler_catalog.h
 *	  Handlers and upcasters as they are registered: the tables event_handlers and
 *	  event_upcasters. All need SPI.
 */
#ifndef PS_HANDLER_CATALOG_H
#define PS_HANDLER_CATALOG_H

#include "core/rules.h"

/* Adds all that are registered to the rules, in the current context. */
extern void ps_handlers_load(PsRules *rules);
extern void ps_upcasters_load(PsRules *rules);

/* Registers one; false when it is there already. */
extern bool ps_handlers_add(const char *event_type, const char *function, const char *owner, int priority);
extern bool ps_upcasters_add(const char *event_type, int from_version, const char *function, const char *owner);

/* The owner of a handler when it was registered; NULL: there is no such handler. */
extern char *ps_handlers_owner(const char *event_type, const char *function);

/* The same of an upcaster, with its function. */
extern char *ps_upcasters_owner(const char *event_type, int from_version, char **function);

extern void ps_handlers_remove(const char *event_type, const char *function);
extern void ps_upcasters_remove(const char *event_type, int from_version);

#endif							/* PS_HANDLER_CATALOG_H */

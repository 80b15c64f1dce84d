/*
 * handler_catalog.h
 *	  Registered handlers, upcasters and decoders: the tables event_handlers,
 *	  event_upcasters and stream_decoders. All calls need SPI.
 */
#ifndef PS_HANDLER_CATALOG_H
#define PS_HANDLER_CATALOG_H

#include "core/event_rules.h"

/* Add all handlers, upcasters or decoders to the rules, in the current context. */
extern void ps_handlers_load(PsRules *rules);
extern void ps_upcasters_load(PsRules *rules);
extern void ps_decoders_load(PsRules *rules);

/* Register a handler or an upcaster; false when it is registered already. */
extern bool ps_handlers_add(const char *event_type, const char *function, Oid owner, int priority);
extern bool ps_upcasters_add(const char *event_type, int from_version, const char *function, Oid owner);

/* A function as it was registered. */
typedef struct PsRegistered
{
	const char *function;
	Oid			owner;			/* owner when it was registered; the role may not exist any more */
	bool		confirmed;
} PsRegistered;

/* Find a handler or an upcaster; false when there is none. */
extern bool ps_handlers_find(const char *event_type, const char *function, PsRegistered *registered);
extern bool ps_upcasters_find(const char *event_type, int from_version, PsRegistered *registered);

extern void ps_handlers_remove(const char *event_type, const char *function);
extern void ps_upcasters_remove(const char *event_type, int from_version);

/* Sets the decoder of a stream, or takes it away. */
extern void ps_decoder_set(int stream_id, const char *function, Oid owner);
extern void ps_decoder_remove(int stream_id);

#endif							/* PS_HANDLER_CATALOG_H */

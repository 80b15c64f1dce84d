/*
 * invalidation.h
 *	  What a process that serves a stream is told by others, through invalidation
 *	  messages: that its stream, a server, a user mapping or a role may be another one.
 */
#ifndef PS_INVALIDATION_H
#define PS_INVALIDATION_H

#include "store/stream_catalog.h"

/* Set at the start, and when something may have changed; whoever acts on it resets it. */
extern bool ps_stream_invalidated;
extern bool ps_options_invalidated;

/* Begins to watch. */
extern void ps_invalidation_begin(void);

/* Whether the extension is there; if so, its streams are what is watched. */
extern bool ps_invalidation_has_extension(void);

/* Whether a stream belongs to the role that this process works for, and that one is there. */
extern bool ps_invalidation_owns(const PsStream *stream);

#endif							/* PS_INVALIDATION_H */

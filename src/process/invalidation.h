/*
 * invalidation.h
 *	  Tells a process of a stream that its stream or the options of its connection may
 *	  have changed. PostgreSQL's invalidation messages bring the news.
 */
#ifndef PS_INVALIDATION_H
#define PS_INVALIDATION_H

#include "store/stream_catalog.h"

/* True at the start and after a change. The process resets a flag when it reads the stream or the options again. */
extern bool ps_stream_invalidated;
extern bool ps_options_invalidated;

/* Registers the callbacks. */
extern void ps_invalidation_begin(void);

/* Whether the database has the extension; then changes of its streams are noticed from now on. */
extern bool ps_invalidation_has_extension(void);

/* Whether the stream still belongs to the role of this process, and that role still exists. */
extern bool ps_invalidation_owns(const PsStream *stream);

#endif							/* PS_INVALIDATION_H */

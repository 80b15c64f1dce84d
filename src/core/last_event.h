/*
 * last_event.h
 *	  What sinks and listeners are told of the event that was applied last.
 */
#ifndef PS_LAST_EVENT_H
#define PS_LAST_EVENT_H

#include "core/event.h"
#include "lib/stringinfo.h"

/*
 * Appends {"eventId", "timestamp", "source"}, or null when there is no event. It is
 * never longer than 5,000 bytes, as a source that is long is cut.
 */
extern void ps_last_event_append(StringInfo json, const PsEvent *event);

#endif							/* PS_LAST_EVENT_H */

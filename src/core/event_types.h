/*
 * event_types.h
 *	  The event types that a stream takes.
 */
#ifndef PS_EVENT_TYPES_H
#define PS_EVENT_TYPES_H

#define PS_MAX_TAKEN_TYPES 1000 /* that a stream can name */

typedef struct PsEventTypes
{
	char	  **names;			/* sorted, as ps_event_types_sort() leaves them */
	int			n;
} PsEventTypes;

/* Sorts the names, and leaves each of them once. */
extern void ps_event_types_sort(PsEventTypes *types);

extern bool ps_event_types_have(const PsEventTypes *types, const char *name);

#endif							/* PS_EVENT_TYPES_H */

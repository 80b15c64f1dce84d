/*
 * wait_event.c
 *	  Wait events of our own. Before PostgreSQL 17 all of them are "Extension".
 */
#include "postgres.h"

#include "compat.h"
#include "process/wait_event.h"

uint32
ps_wait_event(PsWait wait)
{
	static uint32 events[PS_WAITS];

#define PS_WAIT_NAME(symbol, name) [symbol] = name,
	static const char *const names[PS_WAITS] = {PS_WAIT_EVENTS(PS_WAIT_NAME)};

	if (events[wait] == 0)
		events[wait] = names[wait] != NULL ? ps_wait_event_new(names[wait]) : 0;
	return events[wait];
}

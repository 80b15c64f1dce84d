/*
 * testing.h
 *	  What functions of tests call in this room, see testing/test_functions.c.
 */
#ifndef PS_API_TESTING_H
#define PS_API_TESTING_H

#include "postgres.h"

#include "core/event.h"
#include "core/format.h"

/* The payload of an event as jsonb. */
extern Datum ps_payload_jsonb(const PsEvent *event);

/* The members that were found in a message as a profile event. */
extern Datum ps_members_jsonb(PsMembers *members, PsTimeUnit unit);

#endif							/* PS_API_TESTING_H */

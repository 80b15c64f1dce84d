/*
 * customer_table.h
 *	  A hash table by customer, whose functions each file that includes it gets
 *	  for itself: apply.c, reorder.c, deferred.c. The table keeps keys, and what they
 *	  point to must live as long as it.
 */
#ifndef PS_CUSTOMER_TABLE_H
#define PS_CUSTOMER_TABLE_H

#include "core/event.h"
#include "core/keyed_hash.h"

typedef struct PsCustomerKey
{
	const char *customer_id;	/* null-terminated */
	int			len;
	int64		hash;			/* ps_lock_key() */
} PsCustomerKey;

typedef struct PsCustomerSlot
{
	PsCustomerKey key;
	void	   *customer;		/* the caller's */
	char		status;
} PsCustomerSlot;

#define SH_PREFIX ps_customers
#define SH_ELEMENT_TYPE PsCustomerSlot
#define SH_KEY_TYPE PsCustomerKey
#define SH_KEY key
#define SH_HASH_KEY(tb, k) ps_table_hash((k).customer_id, (k).len)	/* anybody can make equal ones of the other */
#define SH_EQUAL(tb, a, b) ((a).hash == (b).hash && (a).len == (b).len && memcmp((a).customer_id, (b).customer_id, (a).len) == 0)
#define SH_SCOPE static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

/* The key of an event's customer; it points to the event's text. */
static inline PsCustomerKey
ps_customer_key(const PsEvent *event)
{
	PsCustomerKey key = {event->customer_id, event->customer_id_len, event->customer_key};

	return key;
}

#endif

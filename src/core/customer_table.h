/*
 * customer_table.h
 *	  A hash table by customer. Each file that includes this header gets static
 *	  functions of its own, as simplehash is meant to be used. The keys point
 *	  to customer ids that must live as long as the table.
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
	void	   *customer;		/* what the caller stores for the customer */
	char		status;
} PsCustomerSlot;

#define SH_PREFIX ps_customers
#define SH_ELEMENT_TYPE PsCustomerSlot
#define SH_KEY_TYPE PsCustomerKey
#define SH_KEY key
#define SH_HASH_KEY(tb, k) ps_table_hash((k).customer_id, (k).len)	/* lock keys are no secret: anybody can make ids
																	 * with the same one */
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

/*
 * customer_erasure.h
 *	  Removes everything that is stored about one customer. Every call needs an SPI connection.
 */
#ifndef PS_CUSTOMER_ERASURE_H
#define PS_CUSTOMER_ERASURE_H

#include "postgres.h"

#include "nodes/pg_list.h"

typedef struct PsErased
{
	int64		profiles;
	int64		chunks;
	int64		event_ids;
	int64		dead_letters;
	int64		redacted;		/* dead letters of others that mentioned the customer */
} PsErased;

/*
 * Removes a customer from the tables and from those of a rebuild; counts the rows
 * of the first only. The caller holds the customer's lock. Until the transaction
 * ends, no stream and no rebuild applies events of the customer.
 */
extern void ps_erasure_remove(const char *customer_id, PsErased *erased);

/* The channels (char *) that an erasure notifies. */
extern List *ps_erasure_channels(const char *other);

#endif							/* PS_CUSTOMER_ERASURE_H */

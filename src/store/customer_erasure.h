/*
 * customer_erasure.h
 *	  Everything that is stored about one customer: removing it, and showing it.
 *	  Every call needs an SPI connection.
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
	int64		redacted;		/* dead letters of others that named the customer */
} PsErased;

/*
 * Removes a customer from both copies of the tables; counts what was served. The
 * caller holds the customer's lock, and no stream or rebuild applies to it until
 * the transaction ends.
 */
extern void ps_erasure_remove(const char *customer_id, PsErased *erased);

/* Channels (char *) on which an erasure is announced. */
extern List *ps_erasure_channels(const char *other);

#define PS_ERASURE_ARGS 3

/* What the statements take: the customer's id, and bounds of event_key() of its events. */
extern void ps_erasure_args(const char *customer_id, Datum *args);

/* What there is about a customer, as export_customer() returns it: a jsonb in SPI's memory. */
extern Datum ps_erasure_export(const char *customer_id);

#endif							/* PS_CUSTOMER_ERASURE_H */

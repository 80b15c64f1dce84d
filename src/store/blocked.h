/*
 * blocked.h
 *	  Customers whose messages are not applied any more. Only a salted hash of each id
 *	  is stored. Every call but ps_blocked_any() needs an SPI connection.
 */
#ifndef PS_BLOCKED_H
#define PS_BLOCKED_H

#include "postgres.h"

/* SQL: the hash of an id; s is the table blocking_salt. */
#define PS_BLOCKED_HASH(id) "pg_catalog.sha256(s.salt || pg_catalog.convert_to(" id ", 'UTF8'))"

/* Whether there may be blocked customers. Looks at the size of the table only, because each batch asks. */
extern bool ps_blocked_any(void);

/* Finds out with one statement which of the customers are blocked. */
extern void ps_blocked_find(const char *const *customer_ids, int n, bool *blocked);

/* Block a customer, and unblock; false when nothing changed. */
extern bool ps_blocked_add(const char *customer_id);
extern bool ps_blocked_remove(const char *customer_id);

#endif							/* PS_BLOCKED_H */

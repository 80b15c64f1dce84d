/*
 * blocked.h
 *	  Customers who were forgotten and are to stay so: a salted hash of each id.
 *	  Every call but ps_blocked_any() needs an SPI connection.
 */
#ifndef PS_BLOCKED_H
#define PS_BLOCKED_H

#include "postgres.h"

/* SQL: the hash of an id, where s is blocking_salt. */
#define PS_BLOCKED_HASH(id) "pg_catalog.sha256(s.salt || pg_catalog.convert_to(" id ", 'UTF8'))"

/* Whether there may be any: asks for nothing but the size of the table. */
extern bool ps_blocked_any(void);

/* Says which of the customers are blocked, in one statement. */
extern void ps_blocked_find(const char *const *customer_ids, int n, bool *blocked);

/* Blocks a customer, and unblocks; whether that changed anything. */
extern bool ps_blocked_add(const char *customer_id);
extern bool ps_blocked_remove(const char *customer_id);

#endif							/* PS_BLOCKED_H */

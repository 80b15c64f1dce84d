/*
 * served.h
 *	  Customers whose profiles serve_profile() has sent to the Redis sinks lately. So it
 *	  does not send a profile at each call that is asked for often.
 */
#ifndef PS_SERVED_H
#define PS_SERVED_H

#include "postgres.h"

/* Called when the library is loaded. If the server does that at its start, all processes share the table. */
extern void ps_served_init(void);

/* Whether a committed transaction, or this one, has sent the customer's profile within so many microseconds. */
extern bool ps_served_recently(const char *customer_id, int64 within_us);

/* Notes that this transaction sends the profile. It counts for others once it commits. */
extern void ps_served_note(const char *customer_id);

#endif							/* PS_SERVED_H */

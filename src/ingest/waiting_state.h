/*
 * waiting_state.h
 *	  The messages that wait, as waiting.c and waiting_deferred.c know them.
 *
 *	  A message is in one of four states, and goes through them in this order:
 *
 *	  held		in its customer's heap, and in the list by arrival
 *	  due		in the list of what is due, in the order to apply it
 *	  given		the caller applies it; it is in no list
 *	  deferred	in its customer's queue, also while the caller tries it again
 */
#ifndef PS_WAITING_STATE_H
#define PS_WAITING_STATE_H

#include "core/customer_table.h"
#include "ingest/waiting.h"
#include "lib/ilist.h"
#include "lib/pairingheap.h"

typedef struct WaitingCustomer
{
	PsCustomerKey key;
	int			nheld;
	pairingheap held;			/* the oldest timestamp first */
	dlist_head	deferred;		/* in the order to apply them */

	/* while it has deferred messages */
	dlist_node	in_deferred;	/* the customer that is deferred longest comes first, until rows were probed */
	bool		trying;			/* its lock was free: its messages are being applied */
	bool		logged;
	int			row_holder;		/* see ps_lock_wait_holder(); 0: its lock is held, not its row */
	TimestampTz since;
} WaitingCustomer;

typedef enum WaitingState
{
	WAITING_HELD,
	WAITING_DUE,
	WAITING_GIVEN,
	WAITING_DEFERRED
} WaitingState;

typedef struct PsWaitingMessage
{
	WaitingState state;
	pairingheap_node in_heap;	/* while held */
	dlist_node	in_list;		/* by arrival, of what is due, or of the customer's queue */
	WaitingCustomer *customer;	/* while held or deferred */
	PsMoment	arrived;
	uint64		number;			/* by arrival */
	uint64		decoder;		/* see ps_waiting_decode_by() */
	PsEvent    *event;			/* NULL: the decoder rejected the message */
	struct PsParts *parts;		/* of the item */
	PsMessage	message;
} PsWaitingMessage;

struct PsWaiting
{
	MemoryContext context;		/* of all that waits */
	ps_customers_hash *customers;
	uint64		decoder;
	int64		bytes;			/* as allocated, of everything */

	/* held */
	dlist_head	arrival;
	dlist_head	due;
	int			ndue;
	int64		nheld;			/* the due ones among them */
	int64		leaving_bytes;	/* of what is due or given */
	uint64		numbers;

	/* deferred */
	dlist_head	deferred_customers;
	int64		ndeferred;
	int64		deferred_bytes;
	PsMoment	next_try;
	bool		more;			/* the last try left messages whose customer's lock was free */
	long		try_ms;			/* time that the last look for free locks took */

	/* for the view and the log */
	char	   *complaint;
	PsMoment	complained_at;
	bool		complains_full;
	PsMoment	log_from;		/* when the interval of log lines began */
	int			nlogged;
};

/* Finds the customer, or adds it. */
extern WaitingCustomer *ps_waiting_find_customer(PsWaiting *waiting, const PsEvent *owner);

/* Removes a customer of whom nothing waits any more. */
extern void ps_waiting_forget_customer(PsWaiting *waiting, WaitingCustomer *customer);

/* Copies a message and its event in one allocation. */
extern PsWaitingMessage *ps_waiting_copy(PsWaiting *waiting, const PsApplyItem *item);

/* Makes an item of a message, with its event if this batch would decode it alike. */
extern PsApplyItem ps_waiting_item(const PsWaiting *waiting, PsWaitingMessage *message);

#endif							/* PS_WAITING_STATE_H */

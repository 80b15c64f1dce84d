/*
 * waiting.c
 *	  The messages that wait, by customer. batch.c holds what it has read, takes what
 *	  is due, and says after each commit what became of it.
 *
 *	  A message is in one of four states, and goes through them in this order:
 *
 *	  held		in its customer's heap, and in the list by arrival
 *	  due		in the list of what is due, in the order to apply it
 *	  given		the caller applies it; it is in no list
 *	  deferred	in its customer's queue, also while the caller tries it again
 */
#include "postgres.h"

#include "core/customer_table.h"
#include "ingest/waiting.h"
#include "lib/ilist.h"
#include "lib/pairingheap.h"
#include "message.h"
#include "store/lock_wait.h"
#include "store/locks.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#define RETRY_MS 100
#define TRY_SHARE 10			/* looking for free locks takes at most one part in so many of the time */
#define LOG_INTERVAL_MS 60000
#define COMPLAINT_MS 1000		/* the holder of a lock is looked up so often */
#define LOGGED_CUSTOMERS 10		/* in an interval */

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

/* Of two held messages, the one to apply first is greater. */
static int
compare_held(const pairingheap_node *a, const pairingheap_node *b, void *arg)
{
	const PsWaitingMessage *x = pairingheap_const_container(PsWaitingMessage, in_heap, a);
	const PsWaitingMessage *y = pairingheap_const_container(PsWaitingMessage, in_heap, b);

	if (x->event->timestamp != y->event->timestamp)
		return x->event->timestamp < y->event->timestamp ? 1 : -1;
	return x->number < y->number ? 1 : -1;
}

PsWaiting *
ps_waiting_create(MemoryContext parent)
{
	PsWaiting  *waiting = MemoryContextAllocZero(parent, sizeof(PsWaiting));

	waiting->context = AllocSetContextCreate(parent, "profile_stream waiting", ALLOCSET_DEFAULT_SIZES);
	ps_waiting_reset(waiting);
	return waiting;
}

void
ps_waiting_reset(PsWaiting *waiting)
{
	MemoryContextReset(waiting->context);
	waiting->customers = ps_customers_create(waiting->context, 1024, NULL);
	dlist_init(&waiting->arrival);
	dlist_init(&waiting->due);
	dlist_init(&waiting->deferred_customers);
	waiting->ndue = 0;
	waiting->nheld = waiting->ndeferred = 0;
	waiting->bytes = waiting->leaving_bytes = waiting->deferred_bytes = 0;
	waiting->next_try = PS_MOMENT_NEVER;
	waiting->more = false;
	waiting->complaint = NULL;
}

void
ps_waiting_decode_by(PsWaiting *waiting, uint64 decoder)
{
	waiting->decoder = decoder;
}

/* Finds the customer, or adds it. */
static WaitingCustomer *
waiting_find_customer(PsWaiting *waiting, const PsEvent *owner)
{
	bool		found;
	PsCustomerSlot *slot = ps_customers_insert(waiting->customers, ps_customer_key(owner), &found);

	if (!found)
	{
		WaitingCustomer *customer = MemoryContextAllocZero(waiting->context, sizeof(WaitingCustomer) + slot->key.len + 1);

		slot->key.customer_id = memcpy((char *) (customer + 1), owner->customer_id, slot->key.len + 1);
		customer->key = slot->key;
		customer->held.ph_compare = compare_held;
		dlist_init(&customer->deferred);
		waiting->bytes += GetMemoryChunkSpace(customer);
		slot->customer = customer;
	}
	return slot->customer;
}

/* Removes a customer of whom nothing waits any more. */
static void
waiting_forget_customer(PsWaiting *waiting, WaitingCustomer *customer)
{
	if (customer->nheld > 0 || !dlist_is_empty(&customer->deferred))
		return;
	(void) ps_customers_delete(waiting->customers, customer->key);
	waiting->bytes -= GetMemoryChunkSpace(customer);
	pfree(customer);
}

/* Copies a message and its event in one allocation. */
static PsWaitingMessage *
waiting_copy(PsWaiting *waiting, const PsApplyItem *item)
{
	Size		event_at = MAXALIGN(sizeof(PsWaitingMessage));
	Size		message_at = event_at + (item->event != NULL ? MAXALIGN(ps_event_space(item->event, &item->message)) : 0);
	PsWaitingMessage *copy = MemoryContextAllocExtended(waiting->context, message_at + ps_message_space(&item->message),
														MCXT_ALLOC_HUGE);

	memset(copy, 0, sizeof(PsWaitingMessage));
	copy->decoder = waiting->decoder;
	ps_message_copy(&copy->message, (char *) copy + message_at, &item->message);
	if (item->event != NULL)
		copy->event = ps_event_copy((char *) copy + event_at, item->event, &item->message, &copy->message);
	waiting->bytes += GetMemoryChunkSpace(copy);
	return copy;
}

/* Makes an item of a message, with its event if this batch would decode it alike. */
static PsApplyItem
waiting_item(const PsWaiting *waiting, PsWaitingMessage *message)
{
	PsApplyItem item = {.message = message->message,.waiting = message};

	if (message->decoder == waiting->decoder)
		item.event = message->event;
	return item;
}

/* The oldest held message of a customer becomes due. */
static PsWaitingMessage *
make_first_due(PsWaiting *waiting, WaitingCustomer *customer)
{
	PsWaitingMessage *message = pairingheap_container(PsWaitingMessage, in_heap, pairingheap_remove_first(&customer->held));

	dlist_delete(&message->in_list);
	dlist_push_tail(&waiting->due, &message->in_list);
	message->state = WAITING_DUE;
	message->customer = NULL;
	waiting->ndue++;
	waiting->leaving_bytes += GetMemoryChunkSpace(message);
	customer->nheld--;
	waiting_forget_customer(waiting, customer);
	return message;
}

void
ps_waiting_hold(PsWaiting *waiting, const PsHoldSettings *settings, const PsApplyItem *item, PsMoment now)
{
	PsWaitingMessage *message = waiting_copy(waiting, item);
	WaitingCustomer *customer = waiting_find_customer(waiting, item->owner);

	message->state = WAITING_HELD;
	message->customer = customer;
	message->arrived = now;
	message->number = waiting->numbers++;
	pairingheap_add(&customer->held, &message->in_heap);
	dlist_push_tail(&waiting->arrival, &message->in_list);
	waiting->nheld++;
	if (++customer->nheld >= settings->per_customer)
		(void) make_first_due(waiting, customer);
}

/* Whether the customer that is held longest has to make room. */
static bool
is_full(const PsWaiting *waiting, const PsHoldSettings *settings, const PsWaitingMessage *oldest)
{
	return waiting->bytes - waiting->leaving_bytes > settings->max_bytes ||
		waiting->numbers - oldest->number > (uint64) settings->max_events;
}

/* Finds the held messages that are due. */
static void
find_due(PsWaiting *waiting, const PsHoldSettings *settings, PsMoment now, bool all)
{
	while (!dlist_is_empty(&waiting->arrival))
	{
		PsWaitingMessage *oldest = dlist_head_element(PsWaitingMessage, in_list, &waiting->arrival);
		WaitingCustomer *customer = oldest->customer;

		if (all || is_full(waiting, settings, oldest))
		{
			for (int left = customer->nheld; left > 0; left--)
				(void) make_first_due(waiting, customer);
		}
		else if (oldest->arrived <= now - settings->wait_us)
		{
			/* the customer's events that happened before it go first */
			while (make_first_due(waiting, customer) != oldest)
				;
		}
		else
			break;
	}
}

int
ps_waiting_release(PsWaiting *waiting, const PsHoldSettings *settings, PsMoment now, bool all, int max,
				   PsApplyItem **items)
{
	int			n;

	find_due(waiting, settings, now, all);
	n = Min(max, waiting->ndue);
	*items = palloc_extended(Max(n, 1) * sizeof(PsApplyItem), MCXT_ALLOC_HUGE);
	for (int i = 0; i < n; i++)
	{
		PsWaitingMessage *message = dlist_container(PsWaitingMessage, in_list, dlist_pop_head_node(&waiting->due));

		message->state = WAITING_GIVEN;
		(*items)[i] = waiting_item(waiting, message);
	}
	waiting->ndue -= n;
	waiting->nheld -= n;
	return n;
}

PsMoment
ps_waiting_oldest(const PsWaiting *waiting)
{
	dlist_head *arrival = unconstify(dlist_head *, &waiting->arrival);

	if (waiting->ndue > 0)
		return PS_MOMENT_PAST;
	if (dlist_is_empty(arrival))
		return PS_MOMENT_NEVER;
	return dlist_head_element(PsWaitingMessage, in_list, arrival)->arrived;
}

int64
ps_waiting_held(const PsWaiting *waiting)
{
	return waiting->nheld;
}

void
ps_waiting_mark(const PsWaiting *waiting, PsApplyItem *items, int n)
{
	for (int i = 0; i < n; i++)
	{
		PsCustomerSlot *slot = NULL;
		const WaitingCustomer *customer;

		if (items[i].owner != NULL && waiting->ndeferred > 0)
			slot = ps_customers_lookup(waiting->customers, ps_customer_key(items[i].owner));
		customer = slot != NULL ? slot->customer : NULL;
		items[i].is_deferred = customer != NULL && !customer->trying &&
			!dlist_is_empty(unconstify(dlist_head *, &customer->deferred));
	}
}

/* The transaction that holds a customer's lock or row, in words. */
static const char *
holder_name(const WaitingCustomer *customer)
{
	int			pid = customer->row_holder != 0 ? customer->row_holder : ps_lock_holder(customer->key.hash);

	return pid == 0 ? "another transaction" : ps_lock_wait_holder_name(pid);
}

/* Logs that a customer is deferred; in a minute of many such customers the others are DEBUG1. */
static void
log_customer(PsWaiting *waiting, const char *stream, WaitingCustomer *customer)
{
	PsMoment	now = ps_clock_now();

	if (now >= ps_moment_plus(waiting->log_from, LOG_INTERVAL_MS))
	{
		waiting->log_from = now;
		waiting->nlogged = 0;
	}
	customer->logged = waiting->nlogged++ < LOGGED_CUSTOMERS;
	ereport(customer->logged ? LOG : DEBUG1,
			(errmsg("stream \"%s\" defers customer \"%s\": %s holds its %s", stream, customer->key.customer_id,
					holder_name(customer), customer->row_holder != 0 ? "row" : "lock"),
			 errhint("The customer's events wait until that transaction ends; the stream applies those of other customers.")));
}

/* The first message of a customer is deferred. */
static void
begin_deferring(PsWaiting *waiting, const char *stream, WaitingCustomer *customer, int row_holder)
{
	customer->trying = customer->logged = false;
	customer->row_holder = row_holder;
	customer->since = GetCurrentTimestamp();
	dlist_push_tail(&waiting->deferred_customers, &customer->in_deferred);
	waiting->deferred_bytes += GetMemoryChunkSpace(customer);
	if (waiting->next_try == PS_MOMENT_NEVER)
		waiting->next_try = ps_moment_plus(ps_clock_now(), RETRY_MS);
	log_customer(waiting, stream, customer);
}

/* The last deferred message of a customer is gone. */
static void
end_deferring(PsWaiting *waiting, const char *stream, WaitingCustomer *customer)
{
	if (customer->logged)
		ereport(LOG, (errmsg("stream \"%s\" has applied the deferred events of customer \"%s\"", stream, customer->key.customer_id)));
	dlist_delete(&customer->in_deferred);
	waiting->deferred_bytes -= GetMemoryChunkSpace(customer);
	if (dlist_is_empty(&waiting->deferred_customers))
		waiting->next_try = PS_MOMENT_NEVER;
	waiting_forget_customer(waiting, customer);
}

/* Defers an item, which was read or given just now. */
static void
defer_item(PsWaiting *waiting, const char *stream, const PsApplyItem *item)
{
	PsWaitingMessage *message = item->waiting != NULL ? item->waiting : waiting_copy(waiting, item);
	WaitingCustomer *customer = waiting_find_customer(waiting, item->owner);
	Size		bytes = GetMemoryChunkSpace(message);

	if (item->waiting != NULL)
		waiting->leaving_bytes -= bytes;
	if (dlist_is_empty(&customer->deferred))
		begin_deferring(waiting, stream, customer, item->row_holder);
	message->state = WAITING_DEFERRED;
	message->customer = customer;
	dlist_push_tail(&customer->deferred, &message->in_list);
	waiting->ndeferred++;
	waiting->deferred_bytes += bytes;
}

/* Drops a message whose item has its outcome. */
static void
drop_message(PsWaiting *waiting, const char *stream, PsWaitingMessage *message)
{
	WaitingCustomer *customer = message->customer;
	Size		bytes = GetMemoryChunkSpace(message);

	waiting->bytes -= bytes;
	if (message->state == WAITING_GIVEN)
		waiting->leaving_bytes -= bytes;
	else
	{
		Assert(message->state == WAITING_DEFERRED);
		dlist_delete(&message->in_list);
		waiting->ndeferred--;
		waiting->deferred_bytes -= bytes;
		if (dlist_is_empty(&customer->deferred))
			end_deferring(waiting, stream, customer);
	}
	pfree(message);
}

void
ps_waiting_committed(PsWaiting *waiting, const char *stream, const PsApplyItem *items, int n)
{
	for (int i = 0; i < n; i++)
	{
		PsWaitingMessage *message = items[i].waiting;

		if (items[i].outcome != PS_DEFERRED)
		{
			if (message != NULL)
				drop_message(waiting, stream, message);
		}
		else if (message != NULL && message->state == WAITING_DEFERRED)
		{
			message->customer->trying = false;	/* those behind it wait as well */
			message->customer->row_holder = items[i].row_holder;
		}
		else
			defer_item(waiting, stream, &items[i]);
	}
}

/* Adds items of a customer's deferred messages, up to max; whether these are all of them. */
static bool
try_customer(PsWaiting *waiting, WaitingCustomer *customer, int max, PsApplyItem *items, int *n)
{
	dlist_iter	iter;

	dlist_foreach(iter, &customer->deferred)
	{
		if (*n >= max)
			return false;
		items[(*n)++] = waiting_item(waiting, dlist_container(PsWaitingMessage, in_list, iter.cur));
	}
	return true;
}

int
ps_waiting_try(PsWaiting *waiting, int max, PsApplyItem **items)
{
	PsMoment	start = ps_clock_now();
	dlist_iter	iter;
	int			n = 0;
	int			tried = 0;

	max = Min(max, waiting->ndeferred);
	*items = palloc_extended(Max(max, 1) * sizeof(PsApplyItem), MCXT_ALLOC_HUGE);
	waiting->more = false;
	dlist_foreach(iter, &waiting->deferred_customers)
	{
		WaitingCustomer *customer = dlist_container(WaitingCustomer, in_deferred, iter.cur);

		if (n >= max)
		{
			waiting->more = true;
			break;
		}
		customer->trying = customer->row_holder == 0 && ps_lock_is_free(customer->key.hash);
		if (!customer->trying)
			continue;
		tried++;
		waiting->more |= !try_customer(waiting, customer, max, *items, &n);
	}
	waiting->try_ms = (long) ((ps_clock_now() - start) / 1000);
	ereport(DEBUG1, (errmsg_internal("trying %d of " INT64_FORMAT " deferred messages, of %d customers whose locks are free",
									 n, waiting->ndeferred, tried)));
	return n;
}

void
ps_waiting_end_try(PsWaiting *waiting)
{
	dlist_iter	iter;

	dlist_foreach(iter, &waiting->deferred_customers)
		dlist_container(WaitingCustomer, in_deferred, iter.cur)->trying = false;
	waiting->next_try = dlist_is_empty(&waiting->deferred_customers) ? PS_MOMENT_NEVER :
		ps_moment_plus(ps_clock_now(), waiting->more ? 0 : Max(RETRY_MS, TRY_SHARE * waiting->try_ms));
}

PsMoment
ps_waiting_next_try(const PsWaiting *waiting)
{
	return waiting->next_try;
}

int64
ps_waiting_bytes(const PsWaiting *waiting)
{
	return waiting->bytes;
}

int64
ps_waiting_deferred_bytes(const PsWaiting *waiting)
{
	return waiting->deferred_bytes;
}

int
ps_waiting_locked_rows(PsWaiting *waiting, int max, PsStoredProfile **profiles)
{
	dlist_iter	iter;
	int			n = 0;

	dlist_foreach(iter, &waiting->deferred_customers)
	{
		WaitingCustomer *customer = dlist_container(WaitingCustomer, in_deferred, iter.cur);

		if (n == max)
			break;
		if (customer->row_holder == 0)
			continue;
		profiles[n] = palloc0(sizeof(PsStoredProfile));
		profiles[n]->customer_id = customer->key.customer_id;
		profiles[n]->customer_id_len = customer->key.len;
		profiles[n++]->hash = (uint32) customer->key.hash;
	}
	return n;
}

void
ps_waiting_rows_probed(PsWaiting *waiting, PsStoredProfile **profiles, int n)
{
	for (int i = 0; i < n; i++)
	{
		PsCustomerKey key = {profiles[i]->customer_id, profiles[i]->customer_id_len};
		WaitingCustomer *customer;

		key.hash = ps_lock_key(key.customer_id, key.len);
		customer = ps_customers_lookup(waiting->customers, key)->customer;
		customer->row_holder = profiles[i]->holder;
		/* the next probe begins with others, in case there are more than it takes */
		dlist_delete(&customer->in_deferred);
		dlist_push_tail(&waiting->deferred_customers, &customer->in_deferred);
	}
}

/* The customer that is deferred longest. */
static const WaitingCustomer *
find_longest_deferred(PsWaiting *waiting)
{
	const WaitingCustomer *oldest = dlist_head_element(WaitingCustomer, in_deferred, &waiting->deferred_customers);
	dlist_iter	iter;

	dlist_foreach(iter, &waiting->deferred_customers)
	{
		const WaitingCustomer *customer = dlist_container(WaitingCustomer, in_deferred, iter.cur);

		if (customer->since < oldest->since)
			oldest = customer;
	}
	return oldest;
}

const char *
ps_waiting_complaint(PsWaiting *waiting, bool full)
{
	PsMoment	now = ps_clock_now();
	const WaitingCustomer *customer;

	if (dlist_is_empty(&waiting->deferred_customers))
		return NULL;
	if (waiting->complaint != NULL && full == waiting->complains_full &&
		now < ps_moment_plus(waiting->complained_at, COMPLAINT_MS))
		return waiting->complaint;
	if (waiting->complaint != NULL)
		pfree(waiting->complaint);
	customer = find_longest_deferred(waiting);
	waiting->complaint = MemoryContextStrdup(waiting->context,
											 psprintf("%scustomer \"%s\" is deferred since %s: %s holds its %s",
													  full ? "deferred events fill the memory; " : "", customer->key.customer_id,
													  timestamptz_to_str(customer->since), holder_name(customer),
													  customer->row_holder != 0 ? "row" : "lock"));
	waiting->complained_at = now;
	waiting->complains_full = full;
	return waiting->complaint;
}

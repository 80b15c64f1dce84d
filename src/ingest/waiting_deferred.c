/*
 * waiting_deferred.c
 *	  The deferred messages: those of customers whose locks or rows other transactions
 *	  hold. They wait in a queue of their customer, and are tried again now and then.
 */
#include "postgres.h"

#include "ingest/waiting_state.h"
#include "store/lock_wait.h"
#include "store/locks.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#define RETRY_MS 100
#define TRY_SHARE 10			/* looking for free locks takes at most one part in so many of the time */
#define LOG_INTERVAL_MS 60000
#define COMPLAINT_MS 1000		/* the holder of a lock is looked up so often */
#define LOGGED_CUSTOMERS 10		/* in an interval */

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
	ps_waiting_forget_customer(waiting, customer);
}

/* Defers an item, which was read or given just now. */
static void
defer_item(PsWaiting *waiting, const char *stream, const PsApplyItem *item)
{
	PsWaitingMessage *message = item->waiting != NULL ? item->waiting : ps_waiting_copy(waiting, item);
	WaitingCustomer *customer = ps_waiting_find_customer(waiting, item->owner);
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
		items[(*n)++] = ps_waiting_item(waiting, dlist_container(PsWaitingMessage, in_list, iter.cur));
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
ps_waiting_deferred(const PsWaiting *waiting)
{
	return waiting->ndeferred;
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

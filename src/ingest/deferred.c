/*
 * deferred.c
 *	  A queue of messages for each customer that is set aside. Called by batch.c
 *	  around each transaction, so that a customer's events keep their order: as
 *	  long as one of them is here, the later ones come here too.
 */
#include "postgres.h"

#include "core/customer_table.h"
#include "ingest/deferred.h"
#include "lib/ilist.h"
#include "message.h"
#include "store/lock_wait.h"
#include "store/locks.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#define RETRY_MS 100
#define TRY_SHARE 10			/* of the time, at most one part in so many goes into looking for free locks */
#define LOG_INTERVAL_MS 60000
#define COMPLAINT_MS 1000		/* until it is found out again who keeps a lock */
#define LOGGED_CUSTOMERS 10		/* an interval */

typedef struct AsideCustomer
{
	dlist_node	in_order;		/* who is set aside longest first */
	PsCustomerKey key;
	bool		trying;			/* its lock was free, its messages are being applied */
	bool		logged;
	int			holder;			/* who keeps its row, see ps_lock_wait_holder(); 0: its lock is kept */
	TimestampTz since;
	dlist_head	messages;
} AsideCustomer;

typedef struct AsideMessage
{
	dlist_node	in_customer;
	AsideCustomer *customer;
	PsMessage	message;
} AsideMessage;

struct PsDeferred
{
	MemoryContext context;		/* of everything kept */
	ps_customers_hash *customers;
	dlist_head	order;
	int64		kept;			/* messages */
	int64		bytes;			/* as allocated */
	PsMoment	next_try;
	bool		more;			/* the last try left messages whose customer's lock was free */
	long		spent_ms;		/* by the last look for free locks */
	char	   *complaint;
	PsMoment	complained_at;
	bool		complains_full;
	PsMoment	log_from;		/* when the interval of log lines began */
	int			logged;
};

PsDeferred *
ps_deferred_create(MemoryContext parent)
{
	PsDeferred *aside = MemoryContextAllocZero(parent, sizeof(PsDeferred));

	aside->context = AllocSetContextCreate(parent, "profile_stream set aside", ALLOCSET_DEFAULT_SIZES);
	ps_deferred_reset(aside);
	return aside;
}

void
ps_deferred_reset(PsDeferred *aside)
{
	MemoryContextReset(aside->context);
	aside->customers = ps_customers_create(aside->context, 64, NULL);
	dlist_init(&aside->order);
	aside->kept = aside->bytes = 0;
	aside->next_try = PS_MOMENT_NEVER;
	aside->more = false;
	aside->complaint = NULL;
}

void
ps_deferred_mark(const PsDeferred *aside, PsApplyItem *items, int n)
{
	for (int i = 0; i < n; i++)
	{
		PsCustomerSlot *slot = NULL;

		if (items[i].owner != NULL && aside->customers->members > 0)
			slot = ps_customers_lookup(aside->customers, ps_customer_key(items[i].owner));
		items[i].aside = slot != NULL && !((AsideCustomer *) slot->customer)->trying;
	}
}

/* The process that keeps a customer's lock or row, in words. */
static const char *
keeper_name(const AsideCustomer *customer)
{
	int			pid = customer->holder != 0 ? customer->holder : ps_lock_holder(customer->key.hash);

	return pid == 0 ? "somebody" : ps_lock_wait_holder_name(pid);
}

/* Says that a customer is set aside, unless too much was said of others. */
static void
log_customer(PsDeferred *aside, const char *stream, AsideCustomer *customer)
{
	PsMoment	now = ps_clock_now();

	if (now >= ps_moment_plus(aside->log_from, LOG_INTERVAL_MS))
	{
		aside->log_from = now;
		aside->logged = 0;
	}
	if (aside->logged++ >= LOGGED_CUSTOMERS)
		return;
	customer->logged = true;
	ereport(LOG,
			(errmsg("stream \"%s\" sets customer \"%s\" aside, whose %s %s keeps", stream, customer->key.customer_id,
					customer->holder != 0 ? "row" : "lock", keeper_name(customer)),
			 errhint("Its events are held until that is free; those of other customers are applied.")));
}

/* Finds the customer among those that are set aside, or adds it. */
static AsideCustomer *
deferred_find_customer(PsDeferred *aside, const char *stream, const PsEvent *owner, int holder)
{
	bool		found;
	PsCustomerSlot *slot = ps_customers_insert(aside->customers, ps_customer_key(owner), &found);

	if (!found)
	{
		AsideCustomer *customer = MemoryContextAllocZero(aside->context, sizeof(AsideCustomer) + slot->key.len + 1);

		slot->key.customer_id = memcpy((char *) (customer + 1), owner->customer_id, slot->key.len + 1);
		customer->key = slot->key;
		customer->holder = holder;
		customer->since = GetCurrentTimestamp();
		dlist_init(&customer->messages);
		dlist_push_tail(&aside->order, &customer->in_order);
		aside->bytes += GetMemoryChunkSpace(customer);
		slot->customer = customer;
		if (aside->next_try == PS_MOMENT_NEVER)
			aside->next_try = ps_moment_plus(ps_clock_now(), RETRY_MS);
		log_customer(aside, stream, customer);
	}
	return slot->customer;
}

/* Keeps a copy of a message that is held. */
static void
deferred_keep(PsDeferred *aside, const char *stream, const PsApplyItem *item)
{
	AsideMessage *kept = MemoryContextAllocExtended(aside->context,
													MAXALIGN(sizeof(AsideMessage)) + ps_message_space(&item->message),
													MCXT_ALLOC_HUGE);

	ps_message_copy(&kept->message, (char *) kept + MAXALIGN(sizeof(AsideMessage)), &item->message);
	kept->customer = deferred_find_customer(aside, stream, item->owner, item->holder);
	dlist_push_tail(&kept->customer->messages, &kept->in_customer);
	aside->bytes += GetMemoryChunkSpace(kept);
	aside->kept++;
}

/* Drops a message; with its last one a customer is not set aside any more. */
static void
deferred_drop(PsDeferred *aside, const char *stream, AsideMessage *kept)
{
	AsideCustomer *customer = kept->customer;

	dlist_delete(&kept->in_customer);
	aside->bytes -= GetMemoryChunkSpace(kept);
	aside->kept--;
	pfree(kept);
	if (!dlist_is_empty(&customer->messages))
		return;
	if (customer->logged)
		ereport(LOG, (errmsg("stream \"%s\" has applied what it held of customer \"%s\"", stream, customer->key.customer_id)));
	(void) ps_customers_delete(aside->customers, customer->key);
	dlist_delete(&customer->in_order);
	aside->bytes -= GetMemoryChunkSpace(customer);
	pfree(customer);
	if (dlist_is_empty(&aside->order))
		aside->next_try = PS_MOMENT_NEVER;
}

void
ps_deferred_committed(PsDeferred *aside, const char *stream, const PsApplyItem *items, int n)
{
	for (int i = 0; i < n; i++)
	{
		AsideMessage *kept = items[i].kept;

		if (items[i].outcome == PS_HELD && kept == NULL)
			deferred_keep(aside, stream, &items[i]);
		else if (items[i].outcome == PS_HELD)
		{
			kept->customer->trying = false; /* those behind it wait as well */
			kept->customer->holder = items[i].holder;
		}
		else if (kept != NULL)
			deferred_drop(aside, stream, kept);
	}
}

int
ps_deferred_take(PsDeferred *aside, int max, PsApplyItem **items)
{
	PsMoment	start = ps_clock_now();
	dlist_iter	iter;
	dlist_iter	inner;
	int			n = 0;

	max = Min(max, aside->kept);
	*items = palloc_extended(Max(max, 1) * sizeof(PsApplyItem), MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	aside->more = false;
	dlist_foreach(iter, &aside->order)
	{
		AsideCustomer *customer = dlist_container(AsideCustomer, in_order, iter.cur);

		if (n >= max)
		{
			aside->more = true;
			break;
		}
		customer->trying = customer->holder == 0 && ps_lock_is_free(customer->key.hash);
		if (!customer->trying)
			continue;
		dlist_foreach(inner, &customer->messages)
		{
			AsideMessage *kept = dlist_container(AsideMessage, in_customer, inner.cur);

			if (n >= max)
			{
				aside->more = true;
				break;
			}
			(*items)[n].message = kept->message;
			(*items)[n++].kept = kept;
		}
	}
	aside->spent_ms = (long) ((ps_clock_now() - start) / 1000);
	return n;
}

void
ps_deferred_end(PsDeferred *aside)
{
	dlist_iter	iter;

	dlist_foreach(iter, &aside->order)
		dlist_container(AsideCustomer, in_order, iter.cur)->trying = false;
	aside->next_try = dlist_is_empty(&aside->order) ? PS_MOMENT_NEVER :
		ps_moment_plus(ps_clock_now(), aside->more ? 0 : Max(RETRY_MS, TRY_SHARE * aside->spent_ms));
}

PsMoment
ps_deferred_next_try(const PsDeferred *aside)
{
	return aside->next_try;
}

int64
ps_deferred_bytes(const PsDeferred *aside)
{
	return aside->bytes;
}

int
ps_deferred_rows(PsDeferred *aside, int max, PsStoredProfile **profiles)
{
	dlist_iter	iter;
	int			n = 0;

	dlist_foreach(iter, &aside->order)
	{
		AsideCustomer *customer = dlist_container(AsideCustomer, in_order, iter.cur);

		if (n == max)
			break;
		if (customer->holder == 0)
			continue;
		profiles[n] = palloc0(sizeof(PsStoredProfile));
		profiles[n]->customer_id = customer->key.customer_id;
		profiles[n]->customer_id_len = customer->key.len;
		profiles[n++]->hash = (uint32) customer->key.hash;
	}
	return n;
}

void
ps_deferred_rows_probed(PsDeferred *aside, PsStoredProfile **profiles, int n)
{
	for (int i = 0; i < n; i++)
	{
		PsCustomerKey key = {profiles[i]->customer_id, profiles[i]->customer_id_len};
		AsideCustomer *customer;

		key.hash = ps_lock_key(key.customer_id, key.len);
		customer = ps_customers_lookup(aside->customers, key)->customer;
		customer->holder = profiles[i]->holder;
		/* the others have their turn, when these were as many as are asked for */
		dlist_delete(&customer->in_order);
		dlist_push_tail(&aside->order, &customer->in_order);
	}
}

/* Who is set aside longest. */
static const AsideCustomer *
find_oldest(PsDeferred *aside)
{
	const AsideCustomer *oldest = dlist_head_element(AsideCustomer, in_order, &aside->order);
	dlist_iter	iter;

	dlist_foreach(iter, &aside->order)
	{
		const AsideCustomer *customer = dlist_container(AsideCustomer, in_order, iter.cur);

		if (customer->since < oldest->since)
			oldest = customer;
	}
	return oldest;
}

const char *
ps_deferred_complaint(PsDeferred *aside, bool full)
{
	PsMoment	now = ps_clock_now();
	const AsideCustomer *customer;
	const char *what;

	if (dlist_is_empty(&aside->order))
		return NULL;
	if (aside->complaint != NULL && full == aside->complains_full && now < ps_moment_plus(aside->complained_at, COMPLAINT_MS))
		return aside->complaint;
	if (aside->complaint != NULL)
		pfree(aside->complaint);
	customer = find_oldest(aside);
	what = full ? "no more events can be held for" : "events are held of";
	aside->complaint = MemoryContextStrdup(aside->context,
										   psprintf("%s customer \"%s\", whose %s %s keeps since %s", what, customer->key.customer_id,
													customer->holder != 0 ? "row" : "lock", keeper_name(customer),
													timestamptz_to_str(customer->since)));
	aside->complained_at = now;
	aside->complains_full = full;
	return aside->complaint;
}

/*
 * aside.c
 *	  A queue of messages for each customer that is set aside. Called by batch.c
 *	  around each transaction, so that a customer's events keep their order: as
 *	  long as one of them is here, the later ones come here too.
 */
#include "postgres.h"

#include "core/customer_table.h"
#include "core/message.h"
#include "ingest/aside.h"
#include "lib/ilist.h"
#include "store/lock.h"
#include "utils/memutils.h"

#define RETRY_MS 100
#define TRY_SHARE 10			/* of the time, at most one part in so many goes into looking for free locks */
#define LOG_INTERVAL_MS 60000
#define LOGGED_CUSTOMERS 10		/* an interval */

typedef struct AsideCustomer
{
	dlist_node	in_order;		/* who is set aside longest first */
	PsCustomerKey key;
	bool		trying;			/* its lock was free, its messages are being applied */
	bool		logged;
	dlist_head	messages;
} AsideCustomer;

typedef struct AsideMessage
{
	dlist_node	in_customer;
	AsideCustomer *customer;
	PsMessage	message;
} AsideMessage;

struct PsAside
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
	PsMoment	log_from;		/* when the interval of log lines began */
	int			logged;
};

PsAside *
ps_aside_create(MemoryContext parent)
{
	PsAside    *aside = MemoryContextAllocZero(parent, sizeof(PsAside));

	aside->context = AllocSetContextCreate(parent, "profile_stream set aside", ALLOCSET_DEFAULT_SIZES);
	ps_aside_reset(aside);
	return aside;
}

void
ps_aside_reset(PsAside *aside)
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
ps_aside_mark(const PsAside *aside, PsEntry *entries, int n)
{
	for (int i = 0; i < n; i++)
	{
		PsCustomerSlot *slot = NULL;

		if (entries[i].owner != NULL && aside->customers->members > 0)
			slot = ps_customers_lookup(aside->customers, ps_customer_key(entries[i].owner));
		entries[i].aside = slot != NULL && !((AsideCustomer *) slot->customer)->trying;
	}
}

/* Says that a customer is set aside, unless too much was said of others. */
static void
log_customer(PsAside *aside, const char *stream, AsideCustomer *customer)
{
	PsMoment	now = ps_clock_now();
	int			pid;

	if (now >= ps_moment_plus(aside->log_from, LOG_INTERVAL_MS))
	{
		aside->log_from = now;
		aside->logged = 0;
	}
	if (aside->logged++ >= LOGGED_CUSTOMERS)
		return;
	customer->logged = true;
	pid = ps_lock_holder(customer->key.hash);
	ereport(LOG,
			(errmsg("stream \"%s\" sets customer \"%s\" aside, whose lock somebody keeps", stream, customer->key.customer_id),
			 pid == 0 ? 0 : errdetail("Process %d has the lock.", pid),
			 errhint("Its events are held until the lock is free; those of other customers are applied.")));
}

/* Finds the customer among those that are set aside, or adds it. */
static AsideCustomer *
find_customer(PsAside *aside, const char *stream, const PsEvent *owner)
{
	bool		found;
	PsCustomerSlot *slot = ps_customers_insert(aside->customers, ps_customer_key(owner), &found);

	if (!found)
	{
		AsideCustomer *customer = MemoryContextAllocZero(aside->context, sizeof(AsideCustomer) + slot->key.len + 1);

		slot->key.customer_id = memcpy((char *) (customer + 1), owner->customer_id, slot->key.len + 1);
		customer->key = slot->key;
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
keep(PsAside *aside, const char *stream, const PsEntry *entry)
{
	AsideMessage *kept = MemoryContextAllocExtended(aside->context,
													MAXALIGN(sizeof(AsideMessage)) + ps_message_space(&entry->message),
													MCXT_ALLOC_HUGE);

	ps_message_copy(&kept->message, (char *) kept + MAXALIGN(sizeof(AsideMessage)), &entry->message);
	kept->customer = find_customer(aside, stream, entry->owner);
	dlist_push_tail(&kept->customer->messages, &kept->in_customer);
	aside->bytes += GetMemoryChunkSpace(kept);
	aside->kept++;
}

/* Drops a message; with its last one a customer is not set aside any more. */
static void
drop(PsAside *aside, const char *stream, AsideMessage *kept)
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
ps_aside_committed(PsAside *aside, const char *stream, const PsEntry *entries, int n)
{
	for (int i = 0; i < n; i++)
	{
		AsideMessage *kept = entries[i].kept;

		if (entries[i].outcome == PS_HELD && kept == NULL)
			keep(aside, stream, &entries[i]);
		else if (entries[i].outcome == PS_HELD)
			kept->customer->trying = false; /* those behind it wait as well */
		else if (kept != NULL)
			drop(aside, stream, kept);
	}
}

int
ps_aside_take(PsAside *aside, int max, PsEntry **entries)
{
	PsMoment	start = ps_clock_now();
	dlist_iter	iter;
	dlist_iter	inner;
	int			n = 0;

	max = Min(max, aside->kept);
	*entries = palloc_extended(Max(max, 1) * sizeof(PsEntry), MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	aside->more = false;
	dlist_foreach(iter, &aside->order)
	{
		AsideCustomer *customer = dlist_container(AsideCustomer, in_order, iter.cur);

		if (n >= max)
		{
			aside->more = true;
			break;
		}
		customer->trying = ps_lock_is_free(customer->key.hash);
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
			(*entries)[n].message = kept->message;
			(*entries)[n++].kept = kept;
		}
	}
	aside->spent_ms = (long) ((ps_clock_now() - start) / 1000);
	return n;
}

void
ps_aside_end(PsAside *aside)
{
	dlist_iter	iter;

	dlist_foreach(iter, &aside->order)
		dlist_container(AsideCustomer, in_order, iter.cur)->trying = false;
	aside->next_try = dlist_is_empty(&aside->order) ? PS_MOMENT_NEVER :
		ps_moment_plus(ps_clock_now(), aside->more ? 0 : Max(RETRY_MS, TRY_SHARE * aside->spent_ms));
}

PsMoment
ps_aside_next_try(const PsAside *aside)
{
	return aside->next_try;
}

int64
ps_aside_bytes(const PsAside *aside)
{
	return aside->bytes;
}

const char *
ps_aside_complaint(PsAside *aside)
{
	if (aside->complaint == NULL)
	{
		AsideCustomer *customer = dlist_head_element(AsideCustomer, in_order, &aside->order);
		int			pid = ps_lock_holder(customer->key.hash);
		const char *by = pid == 0 ? "somebody" : psprintf("process %d", pid);

		aside->complaint = MemoryContextStrdup(aside->context,
											   psprintf("no more events can be held for customer \"%s\", whose lock %s keeps",
														customer->key.customer_id, by));
	}
	return aside->complaint;
}

void
ps_aside_forget_complaint(PsAside *aside)
{
	if (aside->complaint != NULL)
		pfree(aside->complaint);
	aside->complaint = NULL;
}

/*
 * reorder.c
 *	  A heap of events by timestamp for each customer, and a list of all events
 *	  by arrival. Called by the worker between reading and applying.
 */
#include "postgres.h"

#include "core/customer_table.h"
#include "core/reorder.h"
#include "lib/ilist.h"
#include "lib/pairingheap.h"
#include "message.h"
#include "utils/memutils.h"

typedef struct HeldCustomer
{
	PsCustomerKey key;
	int			count;
	pairingheap heap;			/* the oldest timestamp first */
} HeldCustomer;

typedef struct Held
{
	pairingheap_node in_customer;
	dlist_node	in_arrival;		/* of all that are held, or that were released */
	HeldCustomer *customer;
	TimestampTz timestamp;
	PsMoment	arrived;
	uint64		number;			/* by arrival */
	PsMessage	message;
} Held;

struct PsReorder
{
	MemoryContext context;		/* of everything held */
	ps_customers_hash *customers;
	dlist_head	arrival;
	dlist_head	released;		/* due, in the order to apply them */
	int			nreleased;
	dlist_head	given;			/* released to the caller, who still uses them */
	uint64		numbers;
	int64		held;			/* the released ones among them */
	int64		bytes;			/* as allocated, of all that is here */
	int64		released_bytes; /* of what is released or given */
};

static int
compare_held(const pairingheap_node *a, const pairingheap_node *b, void *arg)
{
	const Held *x = pairingheap_const_container(Held, in_customer, a);
	const Held *y = pairingheap_const_container(Held, in_customer, b);

	if (x->timestamp != y->timestamp)
		return x->timestamp < y->timestamp ? 1 : -1;
	return x->number < y->number ? 1 : -1;
}

PsReorder *
ps_reorder_create(MemoryContext parent)
{
	PsReorder  *reorder = MemoryContextAllocZero(parent, sizeof(PsReorder));

	reorder->context = AllocSetContextCreate(parent, "profile_stream held events", ALLOCSET_DEFAULT_SIZES);
	ps_reorder_reset(reorder);
	return reorder;
}

void
ps_reorder_reset(PsReorder *reorder)
{
	MemoryContextReset(reorder->context);
	reorder->customers = ps_customers_create(reorder->context, 1024, NULL);
	dlist_init(&reorder->arrival);
	dlist_init(&reorder->released);
	dlist_init(&reorder->given);
	reorder->nreleased = 0;
	reorder->held = reorder->bytes = reorder->released_bytes = 0;
}

/* One allocation for a message and all that it points to. */
static Held *
copy_message(PsReorder *reorder, const PsMessage *message)
{
	Held	   *held = MemoryContextAllocExtended(reorder->context, MAXALIGN(sizeof(Held)) + ps_message_space(message),
												  MCXT_ALLOC_HUGE);

	memset(held, 0, sizeof(Held));
	ps_message_copy(&held->message, (char *) held + MAXALIGN(sizeof(Held)), message);
	return held;
}

/* Finds the customer among those with held events, or adds it. */
static HeldCustomer *
reorder_find_customer(PsReorder *reorder, const PsEvent *event)
{
	bool		found;
	PsCustomerSlot *slot = ps_customers_insert(reorder->customers, ps_customer_key(event), &found);

	if (!found)
	{
		HeldCustomer *customer = MemoryContextAlloc(reorder->context, sizeof(HeldCustomer) + slot->key.len + 1);

		slot->key.customer_id = memcpy((char *) (customer + 1), event->customer_id, slot->key.len + 1);
		customer->key = slot->key;
		customer->count = 0;
		customer->heap.ph_compare = compare_held;
		customer->heap.ph_arg = NULL;
		customer->heap.ph_root = NULL;
		reorder->bytes += GetMemoryChunkSpace(customer);
		slot->customer = customer;
	}
	return slot->customer;
}

/* Releases the oldest of a customer's events. */
static Held *
release_first(PsReorder *reorder, HeldCustomer *customer)
{
	Held	   *held = pairingheap_container(Held, in_customer, pairingheap_remove_first(&customer->heap));

	dlist_delete(&held->in_arrival);
	dlist_push_tail(&reorder->released, &held->in_arrival);
	reorder->nreleased++;
	reorder->released_bytes += GetMemoryChunkSpace(held);
	if (--customer->count == 0)
	{
		ps_customers_delete(reorder->customers, customer->key);
		reorder->bytes -= GetMemoryChunkSpace(customer);
		pfree(customer);
	}
	return held;
}

void
ps_reorder_add(PsReorder *reorder, const PsReorderSettings *settings, const PsMessage *message,
			   const PsEvent *event, PsMoment now)
{
	Held	   *held = copy_message(reorder, message);

	held->customer = reorder_find_customer(reorder, event);
	held->timestamp = event->timestamp;
	held->arrived = now;
	held->number = reorder->numbers++;
	pairingheap_add(&held->customer->heap, &held->in_customer);
	dlist_push_tail(&reorder->arrival, &held->in_arrival);
	reorder->held++;
	reorder->bytes += GetMemoryChunkSpace(held);
	if (++held->customer->count >= settings->per_customer)
		(void) release_first(reorder, held->customer);
}

/* Whether the customer that waits longest has to make room. */
static bool
is_full(const PsReorder *reorder, const PsReorderSettings *settings, const Held *oldest)
{
	return reorder->bytes - reorder->released_bytes > settings->max_bytes ||
		reorder->numbers - oldest->number > (uint64) settings->max_rows;
}

/* Moves what is due to the released ones. */
static void
release_due(PsReorder *reorder, const PsReorderSettings *settings, PsMoment now, bool all)
{
	while (!dlist_is_empty(&reorder->arrival))
	{
		Held	   *oldest = dlist_head_element(Held, in_arrival, &reorder->arrival);
		HeldCustomer *customer = oldest->customer;

		if (all || is_full(reorder, settings, oldest))
		{
			for (int left = customer->count; left > 0; left--)
				(void) release_first(reorder, customer);
		}
		else if (oldest->arrived <= now - settings->wait_us)
		{
			/* with it go those that happened before it */
			while (release_first(reorder, customer) != oldest)
				;
		}
		else
			break;
	}
}

int
ps_reorder_release(PsReorder *reorder, const PsReorderSettings *settings, PsMoment now,
				   bool all, int max, PsMessage **messages)
{
	int			n;

	release_due(reorder, settings, now, all);
	n = Min(max, reorder->nreleased);
	*messages = palloc_extended(Max(n, 1) * sizeof(PsMessage), MCXT_ALLOC_HUGE);
	for (int i = 0; i < n; i++)
	{
		dlist_node *node = dlist_pop_head_node(&reorder->released);

		(*messages)[i] = dlist_container(Held, in_arrival, node)->message;
		dlist_push_tail(&reorder->given, node);
	}
	reorder->nreleased -= n;
	reorder->held -= n;
	return n;
}

void
ps_reorder_forget_released(PsReorder *reorder)
{
	while (!dlist_is_empty(&reorder->given))
	{
		Held	   *held = dlist_container(Held, in_arrival, dlist_pop_head_node(&reorder->given));

		reorder->bytes -= GetMemoryChunkSpace(held);
		reorder->released_bytes -= GetMemoryChunkSpace(held);
		pfree(held);
	}
}

PsMoment
ps_reorder_oldest(const PsReorder *reorder)
{
	if (reorder->nreleased > 0)
		return PS_MOMENT_PAST;
	if (dlist_is_empty(unconstify(dlist_head *, &reorder->arrival)))
		return PS_MOMENT_NEVER;
	return dlist_head_element(Held, in_arrival, unconstify(dlist_head *, &reorder->arrival))->arrived;
}

int64
ps_reorder_held(const PsReorder *reorder)
{
	return reorder->held;
}

int64
ps_reorder_bytes(const PsReorder *reorder)
{
	return reorder->bytes;
}

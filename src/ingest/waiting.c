/*
 * waiting.c
 *	  The messages that wait, by customer, and among them those that are held.
 *	  waiting_deferred.c has the deferred ones. batch.c holds what it has read, takes
 *	  what is due, and says after each commit what became of it.
 */
#include "postgres.h"

#include "ingest/waiting_state.h"
#include "store/locks.h"
#include "utils/memutils.h"

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

WaitingCustomer *
ps_waiting_find_customer(PsWaiting *waiting, const PsEvent *owner)
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

void
ps_waiting_forget_customer(PsWaiting *waiting, WaitingCustomer *customer)
{
	if (customer->nheld > 0 || !dlist_is_empty(&customer->deferred))
		return;
	(void) ps_customers_delete(waiting->customers, customer->key);
	waiting->bytes -= GetMemoryChunkSpace(customer);
	pfree(customer);
}

PsWaitingMessage *
ps_waiting_copy(PsWaiting *waiting, const PsApplyItem *item)
{
	Size		event_at = MAXALIGN(sizeof(PsWaitingMessage));
	Size		message_at = event_at + (item->event != NULL ? MAXALIGN(ps_event_space(item->event, &item->message)) : 0);
	PsWaitingMessage *copy = MemoryContextAllocExtended(waiting->context, message_at + ps_message_space(&item->message),
														MCXT_ALLOC_HUGE);

	memset(copy, 0, sizeof(PsWaitingMessage));
	copy->decoder = waiting->decoder;
	copy->parts = item->parts;
	ps_message_copy(&copy->message, (char *) copy + message_at, &item->message);
	if (item->event != NULL)
		copy->event = ps_event_copy((char *) copy + event_at, item->event, &item->message, &copy->message);
	waiting->bytes += GetMemoryChunkSpace(copy);
	return copy;
}

PsApplyItem
ps_waiting_item(const PsWaiting *waiting, PsWaitingMessage *message)
{
	PsApplyItem item = {.message = message->message,.parts = message->parts,.waiting = message};

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
	ps_waiting_forget_customer(waiting, customer);
	return message;
}

void
ps_waiting_hold(PsWaiting *waiting, const PsHoldSettings *settings, const PsApplyItem *item, PsMoment now)
{
	PsWaitingMessage *message = ps_waiting_copy(waiting, item);
	WaitingCustomer *customer = ps_waiting_find_customer(waiting, item->owner);

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

/* All held messages of a customer become due, the oldest first. */
static void
make_all_due(PsWaiting *waiting, WaitingCustomer *customer)
{
	for (int left = customer->nheld; left > 0; left--)
		(void) make_first_due(waiting, customer);
}

/* Finds the held messages that are due; all: every one, and settings are not read. */
static void
find_due(PsWaiting *waiting, const PsHoldSettings *settings, PsMoment now, bool all)
{
	while (!dlist_is_empty(&waiting->arrival))
	{
		PsWaitingMessage *oldest = dlist_head_element(PsWaitingMessage, in_list, &waiting->arrival);
		WaitingCustomer *customer = oldest->customer;

		if (all || is_full(waiting, settings, oldest))
			make_all_due(waiting, customer);
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

int64
ps_waiting_flush(PsWaiting *waiting, const char *customer_id)
{
	PsCustomerKey key = {customer_id};
	PsCustomerSlot *slot;
	int			before = waiting->ndue;

	if (customer_id == NULL)
		find_due(waiting, NULL, PS_MOMENT_PAST, true);
	else
	{
		key.len = strlen(customer_id);
		key.hash = ps_lock_key(customer_id, key.len);
		slot = ps_customers_lookup(waiting->customers, key);
		if (slot != NULL)
			make_all_due(waiting, slot->customer);
	}
	return waiting->ndue - before;
}

int
ps_waiting_due(const PsWaiting *waiting)
{
	return waiting->ndue;
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
		(*items)[i] = ps_waiting_item(waiting, message);
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

int64
ps_waiting_bytes(const PsWaiting *waiting)
{
	return waiting->bytes;
}

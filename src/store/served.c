/*
 * served.c
 *	  A table of fixed size of who was served lately, and when. Two customers may share a
 *	  slot; then the one who was served last has it, and the other is sent again. So nothing
 *	  depends on what the table holds but how often profiles are sent.
 */
#include "postgres.h"

#include "access/xact.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "nodes/pg_list.h"
#include "port/atomics.h"
#include "storage/ipc.h"
#include "storage/shmem.h"
#include "store/locks.h"
#include "store/served.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#define SLOTS 16384				/* 256 kB */

typedef struct ServedSlot
{
	pg_atomic_uint64 customer;	/* hash of database and id; 0: free */
	pg_atomic_uint64 at;		/* TimestampTz */
} ServedSlot;

/* A customer whom this transaction serves. */
typedef struct Serving
{
	uint64		customer;
	SubTransactionId subxact;
} Serving;

static ServedSlot *slots = NULL;
static List *serving = NIL;		/* of Serving, in TopTransactionContext */
static shmem_request_hook_type previous_request = NULL;
static shmem_startup_hook_type previous_startup = NULL;

static void
clear_slots(ServedSlot *table)
{
	for (int i = 0; i < SLOTS; i++)
	{
		pg_atomic_init_u64(&table[i].customer, 0);
		pg_atomic_init_u64(&table[i].at, 0);
	}
}

static void
request_slots(void)
{
	if (previous_request != NULL)
		previous_request();
	RequestAddinShmemSpace(SLOTS * sizeof(ServedSlot));
}

static void
start_slots(void)
{
	bool		found;

	if (previous_startup != NULL)
		previous_startup();
	slots = ShmemInitStruct("profile_stream served", SLOTS * sizeof(ServedSlot), &found);
	if (!found)
		clear_slots(slots);
}

void
ps_served_init(void)
{
	if (!process_shared_preload_libraries_in_progress)
		return;
	previous_request = shmem_request_hook;
	shmem_request_hook = request_slots;
	previous_startup = shmem_startup_hook;
	shmem_startup_hook = start_slots;
}

/* Without preloading the table belongs to the process: then each process sends what it is asked for. */
static ServedSlot *
slot_of(uint64 customer)
{
	if (slots == NULL)
	{
		ServedSlot *table = MemoryContextAlloc(TopMemoryContext, SLOTS * sizeof(ServedSlot));

		clear_slots(table);
		slots = table;
	}
	return &slots[customer % SLOTS];
}

static uint64
served_hash(const char *customer_id)
{
	uint64		hash = hash_combine64((uint64) ps_lock_key(customer_id, strlen(customer_id)), MyDatabaseId);

	return hash == 0 ? 1 : hash;
}

bool
ps_served_recently(const char *customer_id, int64 within_us)
{
	uint64		customer = served_hash(customer_id);
	ServedSlot *slot = slot_of(customer);
	int64		age = GetCurrentTimestamp() - (int64) pg_atomic_read_u64(&slot->at);
	ListCell   *cell;

	foreach(cell, serving)
	{
		if (((Serving *) lfirst(cell))->customer == customer)
			return true;
	}
	/* a clock that was set back makes the age negative */
	return pg_atomic_read_u64(&slot->customer) == customer && age >= 0 && age < within_us;
}

/* What is sent becomes visible with the transaction, and so does the note. */
static void
serving_ended(XactEvent event, void *arg)
{
	ListCell   *cell;

	if (event == XACT_EVENT_PRE_COMMIT || event == XACT_EVENT_PRE_PREPARE || event == XACT_EVENT_PARALLEL_PRE_COMMIT)
		return;
	if (event == XACT_EVENT_COMMIT)
		foreach(cell, serving)
	{
		uint64		customer = ((Serving *) lfirst(cell))->customer;
		ServedSlot *slot = slot_of(customer);

		pg_atomic_write_u64(&slot->at, (uint64) GetCurrentTimestamp());
		pg_atomic_write_u64(&slot->customer, customer);
	}
	serving = NIL;
}

static void
serving_subxact_ended(SubXactEvent event, SubTransactionId subxact, SubTransactionId parent, void *arg)
{
	ListCell   *cell;

	if (event != SUBXACT_EVENT_COMMIT_SUB && event != SUBXACT_EVENT_ABORT_SUB)
		return;
	foreach(cell, serving)
	{
		Serving    *one = lfirst(cell);

		if (one->subxact != subxact)
			continue;
		if (event == SUBXACT_EVENT_COMMIT_SUB)
			one->subxact = parent;
		else
			serving = foreach_delete_current(serving, cell);
	}
}

void
ps_served_note(const char *customer_id)
{
	static bool registered = false;
	MemoryContext caller = MemoryContextSwitchTo(TopTransactionContext);
	Serving    *one = palloc(sizeof(Serving));

	if (!registered)
	{
		RegisterXactCallback(serving_ended, NULL);
		RegisterSubXactCallback(serving_subxact_ended, NULL);
	}
	registered = true;
	one->customer = served_hash(customer_id);
	one->subxact = GetCurrentSubTransactionId();
	serving = lappend(serving, one);
	MemoryContextSwitchTo(caller);
}

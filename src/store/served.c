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
#include "port/atomics.h"
#include "storage/ipc.h"
#include "storage/shmem.h"
#include "store/locks.h"
#include "store/served.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#define SLOTS 16384				/* 256 kB */

typedef struct ServedSlot
{
	pg_atomic_uint64 customer;	/* hash of database and id; 0: free */
	pg_atomic_uint64 at;		/* TimestampTz */
} ServedSlot;

/* A customer whom this transaction serves, and the subtransaction that does. */
typedef struct Serving
{
	uint64		customer;
	SubTransactionId subxact;
} Serving;

static ServedSlot *slots = NULL;

/* in TopTransactionContext: those of a subtransaction are the last ones, until it ends */
static Serving *serving = NULL;
static int	nserving = 0;
static HTAB *serving_customers = NULL;
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

	if (nserving > 0 && hash_search(serving_customers, &customer, HASH_FIND, NULL) != NULL)
		return true;
	/* a clock that was set back makes the age negative */
	return pg_atomic_read_u64(&slot->customer) == customer && age >= 0 && age < within_us;
}

/* Others see a customer as served only once the transaction has committed, which also sends the profile. */
static void
serving_ended(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_PRE_COMMIT || event == XACT_EVENT_PRE_PREPARE || event == XACT_EVENT_PARALLEL_PRE_COMMIT)
		return;
	for (int i = 0; event == XACT_EVENT_COMMIT && i < nserving; i++)
	{
		ServedSlot *slot = slot_of(serving[i].customer);

		pg_atomic_write_u64(&slot->at, (uint64) GetCurrentTimestamp());
		pg_atomic_write_u64(&slot->customer, serving[i].customer);
	}
	nserving = 0;
	serving = NULL;
	serving_customers = NULL;
}

static void
serving_subxact_ended(SubXactEvent event, SubTransactionId subxact, SubTransactionId parent, void *arg)
{
	if (event == SUBXACT_EVENT_COMMIT_SUB)
		for (int i = nserving - 1; i >= 0 && serving[i].subxact == subxact; i--)
			serving[i].subxact = parent;
	else if (event == SUBXACT_EVENT_ABORT_SUB)
		for (; nserving > 0 && serving[nserving - 1].subxact == subxact; nserving--)
			(void) hash_search(serving_customers, &serving[nserving - 1].customer, HASH_REMOVE, NULL);
}

/* Makes room for another customer of this transaction. */
static void
grow_serving(void)
{
	HASHCTL		control = {.keysize = sizeof(uint64),.entrysize = sizeof(uint64),.hcxt = TopTransactionContext};

	if (serving == NULL)
	{
		serving_customers = hash_create("profile_stream serving", 64, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
		serving = MemoryContextAlloc(TopTransactionContext, 64 * sizeof(Serving));
	}
	else if (nserving >= 64 && (nserving & (nserving - 1)) == 0)
		serving = repalloc_huge(serving, 2 * (Size) nserving * sizeof(Serving));
}

void
ps_served_note(const char *customer_id)
{
	static bool registered = false;
	uint64		customer = served_hash(customer_id);

	if (!registered)
	{
		RegisterXactCallback(serving_ended, NULL);
		RegisterSubXactCallback(serving_subxact_ended, NULL);
	}
	registered = true;
	grow_serving();
	(void) hash_search(serving_customers, &customer, HASH_ENTER, NULL);
	serving[nserving++] = (Serving)
	{
		customer, GetCurrentSubTransactionId()
	};
}

/*
 * event_id_filter.c
 *	  A Bloom filter, and the list of the customers whose sealed ids are all in it. All
 *	  bits of an id are in one line of the processor's cache, so that a question waits
 *	  for memory once. In the filter of PostgreSQL's library they are anywhere.
 *
 *	  A customer is listed with the stamp of the chunks: when somebody else has sealed
 *	  one, the stamp is another and the customer counts as not listed. So neither a
 *	  rollback nor another worker can make the filter wrong. The second of the newest
 *	  id is compared too: when events are applied anew, after forget_customer(), their
 *	  stamp is that of before.
 *
 *	  A filter that is full takes no more customers. It is emptied, because ids cannot be
 *	  taken out of it, when it has refused several times as many ids as it has: so filling
 *	  it takes little beside the looks at the table that it does not spare.
 */
#include "postgres.h"

#include "compat.h"
#include "miscadmin.h"
#include "store/event_id_filter.h"
#include "utils/memutils.h"

#define BIT_LOG 9
#define LINE_BITS (1 << BIT_LOG)	/* of a line of the cache */
#define LINES_LOG 19			/* 32 MB */
#define LINES ((Size) 1 << LINES_LOG)
#define BITS_OF_ID 5
#define MAX_IDS ((int64) LINES * LINE_BITS / 16)	/* one id has 16 bits, so that one of some 600 new ids is taken
													 * for a known one */
#define REFUSALS 4				/* times MAX_IDS ids, after which a full filter is emptied */

typedef struct Customer
{
	int64		key;
	uint64		stamp;
	uint32		chunks;
	uint32		newest;
	char		status;
} Customer;

/* lock keys may collide, or be made to: then two customers take turns in one entry, which is slow and not wrong */
#define SH_PREFIX listed
#define SH_ELEMENT_TYPE Customer
#define SH_KEY_TYPE int64
#define SH_KEY key
#define SH_HASH_KEY(tb, k) ps_table_hash((const char *) &(k), sizeof(k))
#define SH_EQUAL(tb, a, b) ((a) == (b))
#define SH_SCOPE static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

typedef struct FilterLine
{
	uint64		words[LINE_BITS / 64];
} FilterLine;

StaticAssertDecl(LINES_LOG + BITS_OF_ID * BIT_LOG <= 64, "a hash of 64 bits tells the line and all bits in it");

static MemoryContext context = NULL;
static FilterLine *filter = NULL;
static listed_hash *listed = NULL;
static int64 ids_in_filter = 0;
static int64 ids_refused = 0;	/* since it is full */
static int64 max_ids = MAX_IDS;
static bool in_sessions = false;	/* for tests */

/* Empties the filter, or makes it. */
static void
reset_filter(void)
{
	MemoryContext old;

	if (context == NULL)
		context = AllocSetContextCreate(TopMemoryContext, "profile_stream event ids", ALLOCSET_DEFAULT_SIZES);
	filter = NULL;
	listed = NULL;
	MemoryContextReset(context);
	old = MemoryContextSwitchTo(context);
	listed = listed_create(context, 1024, NULL);
	filter = (FilterLine *) TYPEALIGN(sizeof(FilterLine), palloc0((LINES + 1) * sizeof(FilterLine)));
	ids_in_filter = ids_refused = 0;
	MemoryContextSwitchTo(old);
}

/* The hash of a customer's id. Nobody can choose it, because hashes of ids have a secret key already. */
static inline uint64
hash_of_id(int64 customer_key, const PsIdHash *hash)
{
	uint64		part;

	memcpy(&part, hash->bytes, sizeof(part));
	return part ^ (uint64) customer_key;
}

static inline FilterLine *
line_of_hash(uint64 hash)
{
	return &filter[hash >> (64 - LINES_LOG)];
}

bool
ps_id_filter_has(int64 customer_key, const PsSealedIds *sealed)
{
	Customer   *customer = listed == NULL ? NULL : listed_lookup(listed, customer_key);

	return customer != NULL && customer->stamp == sealed->stamp && customer->chunks == sealed->chunks &&
		customer->newest == sealed->newest;
}

bool
ps_id_filter_test(int64 customer_key, const PsIdHash *id)
{
	uint64		hash = hash_of_id(customer_key, id);
	const FilterLine *line = line_of_hash(hash);
	uint64		missing = 0;

	for (int i = 0; i < BITS_OF_ID; i++, hash >>= BIT_LOG)
		missing |= ~line->words[hash % LINE_BITS / 64] >> (hash % 64) & 1;
	return missing == 0;
}

/* In a session, the memory would not pay off. */
bool
ps_id_filter_begin(int64 customer_key, const PsSealedIds *sealed)
{
	int64		ids = (int64) sealed->chunks * PS_CHUNK_IDS;

	if ((MyBackendType != B_BG_WORKER && !in_sessions) || ids > max_ids / 2)
		return false;
	if (filter != NULL && ids_in_filter + PS_CHUNK_IDS > max_ids)
	{
		ids_refused += ids;
		if (ids_refused < REFUSALS * max_ids)
			return false;
	}
	if (filter == NULL || ids_refused > 0)
		reset_filter();
	return true;
}

void
ps_id_filter_add(int64 customer_key, const bytea *hashes)
{
	const PsIdHash *ids = (const PsIdHash *) VARDATA_ANY(hashes);
	int			n = VARSIZE_ANY_EXHDR(hashes) / sizeof(PsIdHash);

	for (int i = 0; i < n; i++)
	{
		uint64		hash = hash_of_id(customer_key, &ids[i]);
		FilterLine *line = line_of_hash(hash);

		for (int bit = 0; bit < BITS_OF_ID; bit++, hash >>= BIT_LOG)
			line->words[hash % LINE_BITS / 64] |= UINT64CONST(1) << (hash % 64);
	}
	ids_in_filter += n;
}

void
ps_id_filter_end(int64 customer_key, const PsSealedIds *sealed)
{
	bool		found;
	Customer   *customer;

	if (filter == NULL)
		return;
	customer = listed_insert(listed, customer_key, &found);
	customer->stamp = sealed->stamp;
	customer->chunks = sealed->chunks;
	customer->newest = sealed->newest;
}

void
ps_id_filter_seal(const PsIdChunk *chunk)
{
	bool		is_first = chunk->before.chunks == 0;

	if (!is_first && !ps_id_filter_has(chunk->customer_key, &chunk->before))
		return;
	if (!ps_id_filter_begin(chunk->customer_key, &chunk->after))
		return;
	if (!is_first && !ps_id_filter_has(chunk->customer_key, &chunk->before))
		return;					/* the filter was emptied just now */
	ps_id_filter_add(chunk->customer_key, chunk->hashes);
	ps_id_filter_end(chunk->customer_key, &chunk->after);
}

#ifdef PS_FAILPOINTS
void
ps_id_filter_try(int64 ids)
{
	in_sessions = true;
	max_ids = ids;
	reset_filter();
}

int64
ps_id_filter_ids(void)
{
	return ids_in_filter;
}
#endif

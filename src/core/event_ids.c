/*
 * event_ids.c
 *	  The packed event_ids of a profile row.
 *
 *	  They are: the second in which the first open id was applied, the open ids, and
 *	  what is known of sealed chunks if there are any. A new id stands first, so that
 *	  an update of the row changes only the begin of the value.
 *
 *	  Each open id but the first has an age: the time between it and the id before it, in
 *	  one byte. Ages are rounded down, by less than an eighth, and so an id never seems to
 *	  be older than it is: it is remembered for at least dedupe_retention.
 *
 *	  Rows of version 0.1.0 have ages of two bytes. They are read, and get the new form
 *	  when they get an id.
 */
#include "postgres.h"

#include "compat.h"
#include "core/event_ids.h"
#include "utils/timestamp.h"

#define BYTE_AGES 0x80000000	/* in the second of a row: its ages are bytes */
#define AGE_DIGITS 8			/* of an age; what is left of the byte is an exponent of 2 */

#define FIRST_AGE sizeof(((PsOpenId *) NULL)->age)	/* bytes: the age of the first id is not stored */

/* an open id of version 0.1.0 */
#define OLD_MINUTES 0x8000		/* the age is in minutes; others are in seconds */

typedef struct OldOpenId
{
	PsIdHash	hash;
	uint16		age;
} OldOpenId;

#define STAMP_FACTOR UINT64CONST(0x9E3779B97F4A7C15)	/* odd, so that no stamp is lost */

PsIdHash
ps_event_id_hash(const PsHashKey *key, const char *event_id, int len, int scope)
{
	PsHashKey	scoped = {{key->k[0] ^ (uint32) scope, key->k[1]}};
	uint64		hash[2];
	PsIdHash	result;

	ps_keyed_hash_wide(&scoped, event_id, len, hash);
	memcpy(result.bytes, hash, sizeof(result.bytes));
	return result;
}

static PsOpenId *
event_ids_room(void)
{
	return palloc(PS_CHUNK_IDS * sizeof(PsOpenId));
}

/* The greatest age of a byte that is not longer. */
static uint8
pack_age(uint32 seconds)
{
	uint8		exponent = 0;

	for (; seconds >= 2 * AGE_DIGITS; seconds /= 2)
		exponent++;
	return exponent * AGE_DIGITS + seconds;
}

static uint32
unpack_age(uint8 age)
{
	return age < AGE_DIGITS ? age : (uint32) (AGE_DIGITS + age % AGE_DIGITS) << (age / AGE_DIGITS - 1);
}

/* Reads open ids of version 0.1.0. */
static void
event_ids_read_old(PsEventIds *ids, const char *data)
{
	for (int i = 0; i < ids->nopen; i++)
	{
		OldOpenId	old;

		memcpy(&old, data + i * sizeof(OldOpenId), sizeof(OldOpenId));
		ids->open[i].hash = old.hash;
		ids->open[i].age = pack_age((old.age & OLD_MINUTES) == 0 ? old.age : (uint32) (old.age & ~OLD_MINUTES) * SECS_PER_MINUTE);
	}
}

/* Bytes of stored open ids. */
static Size
event_ids_open_len(int nopen, bool byte_ages)
{
	if (!byte_ages)
		return nopen * sizeof(OldOpenId);
	return nopen == 0 ? 0 : nopen * sizeof(PsOpenId) - FIRST_AGE;
}

/* How many open ids so many bytes are; -1: bytes of open ids are never so many. */
static int
event_ids_count(int len, bool byte_ages)
{
	int			n = byte_ages ? (len + FIRST_AGE) / sizeof(PsOpenId) : len / sizeof(OldOpenId);

	return len >= 0 && n < PS_CHUNK_IDS && event_ids_open_len(n, byte_ages) == len ? n : -1;
}

bool
ps_event_ids_load(PsEventIds *ids, struct varlena *stored)
{
	const char *data = stored == NULL ? NULL : VARDATA_ANY(stored);
	int			len = stored == NULL ? 0 : VARSIZE_ANY_EXHDR(stored);
	int			sealed_len = 0;
	bool		byte_ages;

	memset(ids, 0, sizeof(PsEventIds));
	ids->stored = stored;
	if (len == 0)
		return true;
	if (len < sizeof(ids->newest))
		return false;
	memcpy(&ids->newest, data, sizeof(ids->newest));
	data += sizeof(ids->newest);
	len -= sizeof(ids->newest);
	byte_ages = (ids->newest & BYTE_AGES) != 0;
	ids->newest &= ~BYTE_AGES;
	ids->nopen = event_ids_count(len, byte_ages);
	if (ids->nopen < 0)
	{
		sealed_len = sizeof(PsSealedIds);
		ids->nopen = event_ids_count(len - sealed_len, byte_ages);
	}
	if (ids->nopen < 0)
		return false;
	ids->open = event_ids_room();
	if (!byte_ages)
		event_ids_read_old(ids, data);
	else if (ids->nopen > 0)
	{
		ids->open[0].age = 0;
		memcpy(&ids->open[0].hash, data, len - sealed_len);
	}
	memcpy(&ids->sealed, data + len - sealed_len, sealed_len);
	return true;
}

struct varlena *
ps_event_ids_save(const PsEventIds *ids)
{
	Size		open_len = event_ids_open_len(ids->nopen, true);
	Size		sealed_len = ids->sealed.chunks == 0 ? 0 : sizeof(PsSealedIds);
	struct varlena *result = ids->stored;
	uint32		newest = ids->newest | BYTE_AGES;
	char	   *data;

	if (result != NULL)
		return result;
	result = palloc(VARHDRSZ + sizeof(ids->newest) + open_len + sealed_len);
	data = VARDATA(result);
	if (open_len + sealed_len == 0)
	{
		SET_VARSIZE(result, VARHDRSZ);
		return result;
	}
	SET_VARSIZE(result, VARHDRSZ + sizeof(ids->newest) + open_len + sealed_len);
	memcpy(data, &newest, sizeof(newest));
	if (open_len > 0)
		memcpy(data + sizeof(ids->newest), &ids->open[0].hash, open_len);
	memcpy(data + sizeof(ids->newest) + open_len, &ids->sealed, sealed_len);
	return result;
}

/* The second of a moment, since 2000; of those after 2068 the last one before. */
static uint32
second_of(TimestampTz at)
{
	return at <= 0 ? 0 : (uint32) Min(at / USECS_PER_SEC, (int64) BYTE_AGES - 1);
}

/* The first moment after a second. */
static TimestampTz
event_ids_end_of(uint32 second)
{
	return (second + INT64CONST(1)) * USECS_PER_SEC;
}

TimestampTz
ps_event_ids_time(const PsEventIds *ids, int i, uint32 *second)
{
	*second = i == 0 ? ids->newest : *second - Min(*second, unpack_age(ids->open[i].age));
	return event_ids_end_of(*second);
}

static bool
same_hash(const PsIdHash *a, const PsIdHash *b)
{
	return memcmp(a->bytes, b->bytes, sizeof(a->bytes)) == 0;
}

bool
ps_event_ids_find(const PsEventIds *ids, const PsIdHash *hash, TimestampTz after)
{
	uint32		second = 0;

	for (int i = 0; i < ids->nopen; i++)
	{
		if (!same_hash(&ids->open[i].hash, hash))
			continue;
		for (int j = 0; j <= i; j++)
			if (ps_event_ids_time(ids, j, &second) <= after)
				return false;
		return true;
	}
	return false;
}

TimestampTz
ps_event_ids_sealed_to(const PsEventIds *ids)
{
	return ids->sealed.chunks == 0 ? DT_NOBEGIN : event_ids_end_of(ids->sealed.newest);
}

static int
event_ids_compare_hashes(const void *a, const void *b)
{
	return memcmp(a, b, sizeof(PsIdHash));
}

/* Moves the open ids into a new chunk. */
static PsIdChunk *
event_ids_seal(PsEventIds *ids)
{
	PsIdChunk  *chunk = palloc0(sizeof(PsIdChunk));
	Size		size = VARHDRSZ + ids->nopen * sizeof(PsIdHash);
	PsIdHash   *hashes;
	uint64		mixed = 0;

	chunk->hashes = palloc(size);
	SET_VARSIZE(chunk->hashes, size);
	hashes = (PsIdHash *) VARDATA(chunk->hashes);
	for (int i = 0; i < ids->nopen; i++)
	{
		uint64		part;

		hashes[i] = ids->open[i].hash;
		memcpy(&part, hashes[i].bytes, sizeof(part));
		mixed ^= part;
	}
	qsort(hashes, ids->nopen, sizeof(PsIdHash), event_ids_compare_hashes);
	chunk->before = ids->sealed;
	ids->sealed.stamp = ids->sealed.stamp * STAMP_FACTOR + mixed;
	ids->sealed.newest = Max(ids->sealed.newest, ids->newest);
	ids->sealed.chunks++;
	chunk->after = ids->sealed;
	chunk->sealed_to = event_ids_end_of(ids->newest);
	ids->nopen = 0;
	return chunk;
}

PsIdChunk *
ps_event_ids_add(PsEventIds *ids, const PsIdHash *hash, TimestampTz now)
{
	uint32		second = Max(second_of(now), ids->newest);	/* a clock that was set back makes no id older */

	ids->stored = NULL;
	if (ids->open == NULL)
		ids->open = event_ids_room();
	if (ids->nopen > 0)
		ids->open[0].age = pack_age(second - ids->newest);
	memmove(&ids->open[1], &ids->open[0], ids->nopen * sizeof(PsOpenId));
	ids->open[0].hash = *hash;
	ids->open[0].age = 0;
	ids->newest = second;
	return ++ids->nopen == PS_CHUNK_IDS ? event_ids_seal(ids) : NULL;
}

PsIdChunk *
ps_id_chunk_copy(const PsIdChunk *chunk, MemoryContext context)
{
	PsIdChunk  *copy = MemoryContextAlloc(context, sizeof(PsIdChunk));

	*copy = *chunk;
	copy->hashes = MemoryContextAlloc(context, VARSIZE(chunk->hashes));
	memcpy(copy->hashes, chunk->hashes, VARSIZE(chunk->hashes));
	return copy;
}

bool
ps_event_ids_equal(const PsEventIds *a, const PsEventIds *b)
{
	if (a->nopen != b->nopen || a->sealed.chunks != b->sealed.chunks || a->sealed.stamp != b->sealed.stamp)
		return false;
	for (int i = 0; i < a->nopen; i++)
		if (!same_hash(&a->open[i].hash, &b->open[i].hash))
			return false;
	return true;
}

bool
ps_id_chunk_is_valid(const bytea *hashes)
{
	return VARSIZE_ANY_EXHDR(hashes) > 0 && VARSIZE_ANY_EXHDR(hashes) % sizeof(PsIdHash) == 0;
}

bool
ps_id_chunk_find(const bytea *hashes, const PsIdHash *hash)
{
	return bsearch(hash, VARDATA_ANY(hashes), VARSIZE_ANY_EXHDR(hashes) / sizeof(PsIdHash), sizeof(PsIdHash),
				   event_ids_compare_hashes) != NULL;
}

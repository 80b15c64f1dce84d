/*
 * event_ids.h
 *	  The ids of a customer's applied events, for de-duplication, as far as they are
 *	  in the profile's row.
 *
 *	  open chunk   the newest ids, in the profile row's event_ids
 *	  sealed chunk a full open chunk, moved to a row of event_id_chunks
 *
 *	  An id is kept as 80 bits of a hash whose key is a secret of the database. Of a
 *	  customer with n ids, a new one is taken for a duplicate by mistake with a
 *	  probability of n / 2^80: below 1e-15 for a thousand million ids. Without the key
 *	  nobody can find two ids with one hash.
 */
#ifndef PS_EVENT_IDS_H
#define PS_EVENT_IDS_H

#include "core/keyed_hash.h"
#include "datatype/timestamp.h"

#define PS_CHUNK_IDS 32			/* an open chunk is sealed when it holds so many */

typedef struct PsIdHash
{
	uint8		bytes[10];
} PsIdHash;

typedef struct PsOpenId
{
	uint8		age;			/* how much earlier it was applied than the id before it, see event_ids.c */
	PsIdHash	hash;
} PsOpenId;

/* The sealed chunks of a customer. */
typedef struct PsSealedIds
{
	uint32		chunks;			/* how many were sealed; also the number of the last one */
	uint32		newest;			/* second in which the newest of their ids was applied */
	uint64		stamp;			/* made of all their hashes: others have another one */
} PsSealedIds;

typedef struct PsEventIds
{
	uint32		newest;			/* second in which the first open id was applied */
	int			nopen;
	PsOpenId   *open;			/* newest first, with room for PS_CHUNK_IDS */
	PsSealedIds sealed;
	struct varlena *stored;		/* the row's value; NULL: it has changed */
} PsEventIds;

typedef struct PsIdChunk
{
	const char *customer_id;
	int64		customer_key;	/* ps_lock_key(); the caller sets it and customer_id */
	PsSealedIds before;			/* of the customer, without and with this chunk */
	PsSealedIds after;
	TimestampTz sealed_to;		/* no id was applied later */
	bytea	   *hashes;			/* sorted */
	struct PsIdChunk *next;		/* one transaction may seal several chunks */
} PsIdChunk;

/* The hash of an id. A scope other than 0 is a stream whose ids count alone. */
extern PsIdHash ps_event_id_hash(const PsHashKey *key, const char *event_id, int len, int scope);

/* Unpacks the event_ids of a row, NULL for a new profile; false when the bytes are damaged. */
extern bool ps_event_ids_load(PsEventIds *ids, struct varlena *stored);
extern struct varlena *ps_event_ids_save(const PsEventIds *ids);

/* Whether an open id with this hash was applied after a moment. */
extern bool ps_event_ids_find(const PsEventIds *ids, const PsIdHash *hash, TimestampTz after);

/* When the newest id in a sealed chunk was applied at the latest; DT_NOBEGIN when there is no sealed chunk. */
extern TimestampTz ps_event_ids_sealed_to(const PsEventIds *ids);

/* Adds an id that is applied now. Returns the chunk that it sealed, whose customer is to be set, or NULL. */
extern PsIdChunk *ps_event_ids_add(PsEventIds *ids, const PsIdHash *hash, TimestampTz now);

/* A copy of a chunk that lives longer than the profile. */
extern PsIdChunk *ps_id_chunk_copy(const PsIdChunk *chunk, MemoryContext context);

/* When an open id was applied at the latest; they are asked for from the first on, with the answer before in *second. */
extern TimestampTz ps_event_ids_time(const PsEventIds *ids, int i, uint32 *second);

/* Whether two rows have the same ids, whenever these were applied. */
extern bool ps_event_ids_equal(const PsEventIds *a, const PsEventIds *b);

/* Whether bytes can be the hashes of a sealed chunk. */
extern bool ps_id_chunk_is_valid(const bytea *hashes);

/* Whether the hashes of a sealed chunk have this one. */
extern bool ps_id_chunk_find(const bytea *hashes, const PsIdHash *hash);

#endif							/* PS_EVENT_IDS_H */

/*
 * offset_set.c
 *	  A bitmap of the finished offsets behind the next one. It is stored in the row of
 *	  the next offset. So a worker knows after a crash which messages behind that offset
 *	  are applied already.
 */
#include "postgres.h"

#include "compat.h"
#include "core/offset_set.h"
#include "port/pg_bitutils.h"
#include "port/pg_bswap.h"
#include "utils/memutils.h"

#define ALL_FINISHED 0xFF
#define ALIGNED(offset) ((offset) & ~INT64CONST(7))

void
ps_offset_set_init(PsOffsetSet *set, int64 next, const bytea *finished, MemoryContext context)
{
	uint64		base = 0;

	set->next = set->read = set->until = next;
	set->base = ALIGNED(next);
	set->size = 0;
	set->context = context;
	set->bits = NULL;
	if (finished == NULL || VARSIZE_ANY_EXHDR(finished) <= sizeof(base))
		return;
	/* somebody may have changed next_offset by hand; then the marks belong to other offsets */
	memcpy(&base, VARDATA_ANY(finished), sizeof(base));
	if (pg_ntoh64(base) != (uint64) set->base)
		return;
	set->size = VARSIZE_ANY_EXHDR(finished) - sizeof(base);
	set->bits = MemoryContextAllocHuge(context, set->size);
	memcpy(set->bits, VARDATA_ANY(finished) + sizeof(base), set->size);
	set->until = set->base + set->size * 8;
}

bool
ps_offset_set_finished(const PsOffsetSet *set, int64 offset)
{
	Size		byte = (offset - set->base) / 8;

	return offset < set->next || (byte < set->size && (set->bits[byte] & (1 << (offset & 7))) != 0);
}

/* Makes the bitmap large enough for an offset. */
static void
offset_set_grow(PsOffsetSet *set, int64 offset)
{
	Size		needed = (offset - set->base) / 8 + 1;
	Size		size;

	if (needed <= set->size)
		return;
	size = Max(needed, Max(set->size * 2, 64));
	set->bits = set->bits == NULL ? MemoryContextAllocHuge(set->context, size) : repalloc_huge(set->bits, size);
	memset(set->bits + set->size, 0, size - set->size);
	set->size = size;
}

void
ps_offset_set_mark(PsOffsetSet *set, int64 offset, bool finished)
{
	uint8		bit = 1 << (offset & 7);

	if (offset < set->next)
		return;
	offset_set_grow(set, offset);
	if (finished)
		set->bits[(offset - set->base) / 8] |= bit;
	else
		set->bits[(offset - set->base) / 8] &= ~bit;
	set->until = Max(set->until, offset + 1);
}

void
ps_offset_set_read_to(PsOffsetSet *set, int64 offset)
{
	if (set->read < offset && set->until <= set->read && ps_offset_set_candidate(set) == set->read)
	{
		/* nothing is held, so that even a long gap between offsets needs no marks */
		set->next = set->read = offset;
		set->base = ALIGNED(offset);
		if (set->size > 0)
			memset(set->bits, 0, set->size);
		return;
	}
	for (; set->read < offset; set->read++)
		ps_offset_set_mark(set, set->read, true);
}

bool
ps_offset_set_read(PsOffsetSet *set, int64 offset)
{
	bool		finished = ps_offset_set_finished(set, offset);

	ps_offset_set_read_to(set, offset);
	set->read = Max(set->read, offset + 1);
	return finished;
}

int64
ps_offset_set_candidate(const PsOffsetSet *set)
{
	int64		offset = set->next;

	while (ps_offset_set_finished(set, offset) && (offset - set->base) / 8 < set->size)
		offset += (offset & 7) == 0 && set->bits[(offset - set->base) / 8] == ALL_FINISHED ? 8 : 1;
	return offset;
}

void
ps_offset_set_advance(PsOffsetSet *set)
{
	Size		passed;

	set->next = ps_offset_set_candidate(set);
	set->read = Max(set->read, set->next);
	passed = (ALIGNED(set->next) - set->base) / 8;
	if (passed == 0)
		return;
	if (passed < set->size)
		memmove(set->bits, set->bits + passed, set->size - passed);
	memset(set->bits + set->size - Min(passed, set->size), 0, Min(passed, set->size));
	set->base = ALIGNED(set->next);
}

int64
ps_offset_set_unfinished(const PsOffsetSet *set, int64 until)
{
	int64		n = 0;

	for (int64 offset = set->next; offset < until; offset++)
	{
		Size		byte = (offset - set->base) / 8;

		if (byte >= set->size)
			return n + until - offset;
		if ((offset & 7) == 0 && offset + 8 <= until)
		{
			n += 8 - pg_number_of_ones[set->bits[byte]];
			offset += 7;
		}
		else
			n += !ps_offset_set_finished(set, offset);
	}
	return n;
}

bytea *
ps_offset_set_encode(const PsOffsetSet *set, int64 from)
{
	uint64		base = pg_hton64((uint64) ALIGNED(from));
	Size		first = (ALIGNED(from) - set->base) / 8;
	Size		end = set->size;
	Size		len;
	bytea	   *result;

	while (end > first && set->bits[end - 1] == 0)
		end--;
	/* a single byte may have no marks but those before from */
	if (end == first + 1 && (set->bits[first] >> (from & 7)) == 0)
		end = first;
	len = end > first ? sizeof(base) + end - first : 0;
	result = palloc(VARHDRSZ + len);
	SET_VARSIZE(result, VARHDRSZ + len);
	if (len > 0)
	{
		memcpy(VARDATA(result), &base, sizeof(base));
		memcpy(VARDATA(result) + sizeof(base), set->bits + first, end - first);
	}
	return result;
}

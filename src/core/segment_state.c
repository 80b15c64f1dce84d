/*
 * segment_state.c
 *	  Packs and unpacks what the row of a profile knows of live segments: varints of the
 *	  moment, of the greatest known number, and of the distances between the members.
 */
#include "postgres.h"

#include "compat.h"
#include "core/segment_state.h"
#include "core/varint.h"
#include "utils/timestamp.h"

static void
complain_of_damage(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_DATA_CORRUPTED),
			 errmsg("segment state of a profile is damaged"),
			 errhint("Set segment_state of the profile to NULL, and call refresh_segments().")));
}

void
ps_segment_state_read(const bytea *packed, PsSegmentState *state)
{
	const char *next;
	const char *end;
	uint64		number;
	uint64		known = 0;
	uint64		due;

	*state = (PsSegmentState)
	{
		DT_NOEND
	};
	if (packed == NULL)
		return;
	next = VARDATA_ANY(packed);
	end = next + VARSIZE_ANY_EXHDR(packed);
	if (!ps_varint_read(&next, end, &due) || !ps_varint_read(&next, end, &known))
		complain_of_damage();
	if (due > 0)
		state->due_at = ps_unzigzag(due - 1);
	state->known = (uint32) known;
	state->members = next < end ? palloc((end - next) * sizeof(uint32)) : NULL;
	while (next < end)
	{
		uint32		before = state->nmembers == 0 ? 0 : state->members[state->nmembers - 1];

		if (!ps_varint_read(&next, end, &number))
			complain_of_damage();
		state->members[state->nmembers++] = before + (uint32) number;
	}
}

bytea *
ps_segment_state_write(const PsSegmentState *state)
{
	bytea	   *packed;
	char	   *next;
	uint32		before = 0;

	if (state->known == 0 && state->nmembers == 0 && TIMESTAMP_IS_NOEND(state->due_at))
		return NULL;
	packed = palloc(VARHDRSZ + (state->nmembers + 2) * PS_VARINT_BYTES);
	next = ps_varint_write(VARDATA(packed), TIMESTAMP_IS_NOEND(state->due_at) ? 0 : ps_zigzag(state->due_at) + 1);
	next = ps_varint_write(next, state->known);
	for (int i = 0; i < state->nmembers; i++)
	{
		next = ps_varint_write(next, state->members[i] - before);
		before = state->members[i];
	}
	SET_VARSIZE(packed, next - (char *) packed);
	return packed;
}

bool
ps_segment_state_has(const PsSegmentState *state, uint32 segment)
{
	for (int i = 0; i < state->nmembers && state->members[i] <= segment; i++)
		if (state->members[i] == segment)
			return true;
	return false;
}

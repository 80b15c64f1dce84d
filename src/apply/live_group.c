/*
 * live_group.c
 *	  Live segments while events are applied: apply.c calls it for each group of customers
 *	  before it saves their profiles.
 *
 *	  A metric may need sealed samples. Those that this transaction seals are written at
 *	  its end; so customers of whom it seals some are visited after that.
 */
#include "postgres.h"

#include "apply/apply_state.h"
#include "apply/live.h"

void
ps_live_group(PsApplyState *state, PsCustomer **customers, int n)
{
	PsStoredProfile **profiles = palloc(n * sizeof(PsStoredProfile *));
	const PsEvent **events = palloc(n * sizeof(PsEvent *));
	bool		reads_samples = ps_live_set(state->live)->reads_samples;
	int			nprofiles = 0;

	for (int i = 0; i < n; i++)
	{
		PsCustomer *customer = customers[i];

		if (customer->napplied == 0)
			continue;
		if (reads_samples && customer->has_sealed)
		{
			if (state->unread == NULL)
				state->unread = MemoryContextAlloc(state->context, state->ncustomers * sizeof(PsCustomer *));
			state->unread[state->nunread++] = customer;
			continue;
		}
		profiles[nprofiles] = customer->stored;
		events[nprofiles++] = customer->last_event;
	}
	ps_live_decide(state->live, profiles, nprofiles, events, false);
}

void
ps_live_rest(PsApplyState *state)
{
	const char **ids = palloc(Max(state->nunread, 1) * sizeof(char *));
	const PsEvent **events = palloc(Max(state->nunread, 1) * sizeof(PsEvent *));

	for (int i = 0; i < state->nunread; i++)
	{
		ids[i] = state->unread[i]->customer_id;
		events[i] = state->unread[i]->last_event;
	}
	if (state->live != NULL)
		ps_live_visit(state->live, ids, state->nunread, events, NULL);
}

/*
 * load.c
 *	  Loads the profiles of a transaction's customers.
 */
#include "postgres.h"

#include "apply/apply_state.h"

static int
compare_customer_ids(const void *a, const void *b)
{
	return strcmp((*(PsCustomer *const *) a)->customer_id, (*(PsCustomer *const *) b)->customer_id);
}

void
ps_apply_sort_by_id(PsCustomer **customers, int n)
{
	qsort(customers, n, sizeof(PsCustomer *), compare_customer_ids);
}

bool
ps_apply_has_locked_rows(const PsApplyState *state, PsStoredProfile **profiles, int n)
{
	if (state->settings->customer_lock_timeout_ms < 0)
		return false;			/* a session waits for the row */
	for (int i = 0; i < n; i++)
		if (profiles[i]->holder != 0)
			return true;
	return false;
}

void
ps_apply_leave_locked_rows(PsApplyState *state)
{
	for (int i = 0; i < state->n; i++)
		if (state->customer_of_item[i] != NULL && state->customer_of_item[i]->stored.holder != 0)
			state->items[i].row_holder = state->customer_of_item[i]->stored.holder;
	ereport(ERROR,
			(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
			 errmsg("other transactions hold rows of customers")));
}

void
ps_apply_load_profiles(PsApplyState *state)
{
	PsCustomer **customers = palloc(state->ncustomers * sizeof(PsCustomer *));
	PsStoredProfile **profiles = palloc(state->ncustomers * sizeof(PsStoredProfile *));
	int			n = 0;

	for (int i = 0; i < state->ncustomers; i++)
		if (!state->customers[i]->deferred && !state->customers[i]->blocked)
			customers[n++] = state->customers[i];
	ps_apply_sort_by_id(customers, n);
	for (int i = 0; i < n; i++)
		profiles[i] = &customers[i]->stored;
	ps_profiles_load(profiles, n);
	if (ps_apply_has_locked_rows(state, profiles, n))
		ps_apply_leave_locked_rows(state);
}

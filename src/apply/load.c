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
ps_work_sort_by_id(PsCustomer **customers, int n)
{
	qsort(customers, n, sizeof(PsCustomer *), compare_customer_ids);
}

bool
ps_work_has_kept(const PsWork *work, PsStoredProfile **profiles, int n)
{
	if (work->settings->lock_timeout_ms < 0)
		return false;			/* a session waits */
	for (int i = 0; i < n; i++)
		if (profiles[i]->keeper != 0)
			return true;
	return false;
}

void
ps_work_leave_kept(PsWork *work)
{
	for (int i = 0; i < work->n; i++)
		if (work->of_entry[i] != NULL && work->of_entry[i]->stored.keeper != 0)
			work->entries[i].keeper = work->of_entry[i]->stored.keeper;
	ereport(ERROR,
			(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
			 errmsg("rows of customers are kept by other transactions")));
}

void
ps_work_load_profiles(PsWork *work)
{
	PsCustomer **customers = palloc(work->ncustomers * sizeof(PsCustomer *));
	PsStoredProfile **profiles = palloc(work->ncustomers * sizeof(PsStoredProfile *));
	int			n = 0;

	for (int i = 0; i < work->ncustomers; i++)
		if (!work->customers[i]->left_out && !work->customers[i]->blocked)
			customers[n++] = work->customers[i];
	ps_work_sort_by_id(customers, n);
	for (int i = 0; i < n; i++)
		profiles[i] = &customers[i]->stored;
	ps_profiles_load(profiles, n);
	if (ps_work_has_kept(work, profiles, n))
		ps_work_leave_kept(work);
}

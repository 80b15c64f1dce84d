/*
 * customers.c
 *	  The order in which customers are locked and loaded, and rows that others hold.
 */
#include "postgres.h"

#include "apply/apply_state.h"

/* A customer and its key side by side: a comparison reads no other memory. */
typedef struct Sorted
{
	int64		key;
	PsCustomer *customer;
} Sorted;

static inline int
compare_sorted(const Sorted *a, const Sorted *b)
{
	if (a->key != b->key)
		return a->key < b->key ? -1 : 1;
	return strcmp(a->customer->customer_id, b->customer->customer_id);
}

#define ST_SORT sort_customers
#define ST_ELEMENT_TYPE Sorted
#define ST_COMPARE(a, b) compare_sorted(a, b)
#define ST_SCOPE static
#define ST_DEFINE
#include "lib/sort_template.h"

void
ps_apply_sort(PsCustomer **customers, int n)
{
	Sorted	   *sorted = palloc(n * sizeof(Sorted));

	for (int i = 0; i < n; i++)
		sorted[i] = (Sorted)
	{
		customers[i]->sort_key, customers[i]
	};
	sort_customers(sorted, n);
	for (int i = 0; i < n; i++)
		customers[i] = sorted[i].customer;
	pfree(sorted);
}

bool
ps_apply_has_locked_rows(const PsApplyState *state, PsCustomer **customers, int n)
{
	bool		any = false;

	if (state->settings->customer_lock_timeout_ms < 0)
		return false;			/* a session waits for the row */
	for (int i = 0; i < n; i++)
	{
		customers[i]->row_holder = customers[i]->stored->holder;
		any |= customers[i]->row_holder != 0;
	}
	return any;
}

void
ps_apply_leave_locked_rows(PsApplyState *state)
{
	for (int i = 0; i < state->n; i++)
		if (state->customer_of_item[i] != NULL && state->customer_of_item[i]->row_holder != 0)
			state->items[i].row_holder = state->customer_of_item[i]->row_holder;
	ereport(ERROR,
			(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
			 errmsg("other transactions hold rows of customers")));
}

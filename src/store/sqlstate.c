/*
 * sqlstate.c
 *	  The classes of SQLSTATE, and whom we blame for an error of each.
 *
 *	  A class that is not listed gives three times no: access rights or a missing
 *	  table, for example, are no message's fault, and they do not pass by themselves.
 */
#include "postgres.h"

#include "store/sqlstate.h"

#define CLASS(a, b) MAKE_SQLSTATE(a, b, '0', '0', '0')

typedef struct SqlstateClass
{
	int			category;
	bool		blames_message;
	bool		is_passing;
	bool		ends_refresh;
} SqlstateClass;

static const SqlstateClass classes[] = {
	/* a constraint, a trigger or a type of the tables refuses what the message holds */
	{CLASS('2', '2'), true, false, false},	/* data exception */
	{CLASS('2', '3'), true, false, false},	/* integrity constraint violation */
	{CLASS('2', '7'), true, false, false},	/* triggered data change violation */
	{CLASS('3', '8'), true, false, false},	/* external routine exception */
	{CLASS('4', '4'), true, false, false},	/* with check option violation */
	{CLASS('5', '4'), true, false, false},	/* program limit exceeded */
	{CLASS('P', '0'), true, false, false},	/* raised by PL/pgSQL */

	/* another attempt may succeed, and the next object would fail the same way */
	{CLASS('4', '0'), false, true, true},	/* transaction rollback */
	{CLASS('5', '3'), false, true, true},	/* insufficient resources */
	{CLASS('5', '7'), false, true, true},	/* operator intervention */
	{CLASS('5', '8'), false, true, true},	/* system error */

	/*
	 * Object not in prerequisite state. A function of a user meets it by what it does itself, as currval() before
	 * nextval(); of the class only a lock that was not available passes, see ps_sqlstate_is_passing(). A refresh
	 * outside of users' code meets it only when somebody else holds its tables.
	 */
	{CLASS('5', '5'), false, false, true},

	/*
	 * Internal error. It may come from a race, such as a function that is dropped while it runs, so it is worth other
	 * attempts; the caller limits their number. A refresh is repeated anyway, so that it need not end for one object:
	 * the object shows the error and the others are refreshed.
	 */
	{CLASS('X', 'X'), false, true, false},
};

static const SqlstateClass *
sqlstate_find_class(int sqlerrcode)
{
	static const SqlstateClass other = {0};

	for (int i = 0; i < lengthof(classes); i++)
		if (classes[i].category == ERRCODE_TO_CATEGORY(sqlerrcode))
			return &classes[i];
	return &other;
}

bool
ps_sqlstate_blames_message(int sqlerrcode)
{
	return sqlstate_find_class(sqlerrcode)->blames_message;
}

bool
ps_sqlstate_is_passing(int sqlerrcode)
{
	return sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE || sqlstate_find_class(sqlerrcode)->is_passing;
}

bool
ps_sqlstate_ends_refresh(int sqlerrcode)
{
	return sqlstate_find_class(sqlerrcode)->ends_refresh;
}

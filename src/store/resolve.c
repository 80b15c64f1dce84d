/*
 * resolve.c
 *	  Names in statements that run with the caller's rights.
 *
 *	  A role that reads profiles has no USAGE of the internal schema. A view needs
 *	  none, because it keeps the OIDs of the tables that its owner named. But SPI keeps
 *	  the text of a statement. PostgreSQL analyses this text again when a table of the
 *	  statement has changed, and when another role runs it on a table with row security.
 *
 *	  Therefore each analysis looks up names with the rights of the tables' owner.
 *	  ps_resolve_begin() becomes the owner when the analysis begins, and
 *	  post_parse_analyze_hook becomes the caller again when it ends. Rewriting, planning
 *	  and execution are the caller's: the caller's policies are added, and the caller's
 *	  rights to tables and functions are checked. An analysis runs no code of users.
 *	  If it raises an error, the abort of the transaction restores the caller.
 */
#include "postgres.h"

#include "parser/analyze.h"
#include "store/owner.h"
#include "store/resolve.h"
#include "utils/lsyscache.h"

static post_parse_analyze_hook_type next_hook = NULL;
static PsSavedUser caller;		/* while the owner's analysis runs */

/* Returns the parameter $n. A ParseState with this hook belongs to an analysis that ps_resolve_begin() began. */
static Node *
get_param(ParseState *state, ParamRef *ref)
{
	const PsPlan *plan = state->p_ref_hook_state;
	Param	   *param = makeNode(Param);

	if (ref->number < 1 || ref->number > plan->nargs)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_PARAMETER),
				 errmsg("there is no parameter $%d", ref->number)));
	param->paramkind = PARAM_EXTERN;
	param->paramid = ref->number;
	param->paramtype = plan->argtypes[ref->number - 1];
	param->paramtypmod = -1;
	param->paramcollid = get_typcollation(param->paramtype);
	param->location = ref->location;
	return (Node *) param;
}

void
ps_resolve_begin(ParseState *state, void *arg)
{
	state->p_paramref_hook = get_param;
	state->p_ref_hook_state = arg;
	caller = ps_switch_to_reading_owner();
}

static void
end_analysis(ParseState *state, Query *query, JumbleState *jumble)
{
	if (state->p_paramref_hook == get_param)
		ps_restore_user(caller);
	if (next_hook)
		next_hook(state, query, jumble);
}

void
ps_resolve_init(void)
{
	next_hook = post_parse_analyze_hook;
	post_parse_analyze_hook = end_analysis;
}

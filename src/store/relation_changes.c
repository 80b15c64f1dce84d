/*
 * relation_changes.c
 *	  Takes one place in PostgreSQL's list of who hears of changed relations. The list has
 *	  ten places for all libraries of a process, and PostgreSQL ends a process that needs
 *	  an eleventh.
 */
#include "postgres.h"

#include "store/relation_changes.h"
#include "utils/inval.h"

static PsRelationChanged listeners[8];
static int	nlisteners = 0;

static void
relation_changes_tell(Datum arg, Oid relid)
{
	for (int i = 0; i < nlisteners; i++)
		listeners[i] (relid);
}

void
ps_on_relation_change(PsRelationChanged changed)
{
	for (int i = 0; i < nlisteners; i++)
		if (listeners[i] == changed)
			return;
	if (nlisteners == lengthof(listeners))
		elog(ERROR, "too many files listen to changes of relations");
	if (nlisteners == 0)
		CacheRegisterRelcacheCallback(relation_changes_tell, (Datum) 0);
	listeners[nlisteners++] = changed;
}

/*
 * relation_changes.h
 *	  Tells files of the library that a relation was changed.
 */
#ifndef PS_RELATION_CHANGES_H
#define PS_RELATION_CHANGES_H

#include "postgres.h"

/* relid is InvalidOid when any relation may have changed. */
typedef void (*PsRelationChanged) (Oid relid);

/* Has changed called from now on until the process ends; a second call with the same function does nothing. */
extern void ps_on_relation_change(PsRelationChanged changed);

#endif							/* PS_RELATION_CHANGES_H */

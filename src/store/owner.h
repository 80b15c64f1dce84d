/*
 * owner.h
 *	  The tables of the extension, and their owner. The store writes with the owner's
 *	  rights, so that no other role needs the right to write.
 */
#ifndef PS_OWNER_H
#define PS_OWNER_H

#include "postgres.h"

typedef struct PsSavedUser
{
	Oid			user;
	int			context;
} PsSavedUser;

/*
 * The schema of the extension's tables. Raises when the schema of that name is
 * not the extension's; InvalidOid when there is none and missing_ok is set.
 */
extern Oid	ps_own_schema(bool missing_ok);

/*
 * A table of the extension, or with in_rebuild its copy in the rebuild schema, where it has one.
 * InvalidOid when there is none; raises when something else has its name.
 */
extern Oid	ps_own_table(bool in_rebuild, const char *name);

/* Becomes the owner of the extension's tables, after the caller's rights were checked; and back. */
extern PsSavedUser ps_switch_to_owner(void);

/*
 * The same for a statement on this table alone. Only this table is checked: when
 * an untrusted role owns another one, the worker can still write why it does not run.
 */
extern PsSavedUser ps_switch_to_owner_for(bool in_rebuild, const char *name);

/* The same in a security-restricted operation, for processes of ours that only read. */
extern PsSavedUser ps_switch_to_reading_owner(void);
extern void ps_restore_user(PsSavedUser saved);

/* Raises unless streams may run for a role. Cheap enough to be called for each batch. */
extern void ps_check_may_run(Oid role);

#endif							/* PS_OWNER_H */

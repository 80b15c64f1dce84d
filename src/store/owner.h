/*
 * owner.h
 *	  The rights of the owner of the extension's tables, for what every caller may
 *	  do but not by statements of their own.
 */
#ifndef PS_OWNER_H
#define PS_OWNER_H

#include "postgres.h"

typedef struct PsIdentity
{
	Oid			user;
	int			context;
} PsIdentity;

/* Becomes the owner of the extension's tables, after the caller's rights were checked; and back. */
extern PsIdentity ps_become_owner(void);
extern void ps_become_caller(PsIdentity identity);

#endif							/* PS_OWNER_H */

/*
 * owner.c
 *	  Becoming the owner of the extension's tables, and the caller again. An error
 *	  in between ends with the caller, too.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "miscadmin.h"
#include "profile_stream.h"
#include "store/owner.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

PsIdentity
ps_become_owner(void)
{
	PsIdentity	identity;
	Oid			relid = get_relname_relid("streams", get_namespace_oid(PS_SCHEMA, false));
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for relation %u", relid);
	GetUserIdAndSecContext(&identity.user, &identity.context);
	SetUserIdAndSecContext(((Form_pg_class) GETSTRUCT(tuple))->relowner,
						   identity.context | SECURITY_LOCAL_USERID_CHANGE);
	ReleaseSysCache(tuple);
	return identity;
}

void
ps_become_caller(PsIdentity identity)
{
	SetUserIdAndSecContext(identity.user, identity.context);
}

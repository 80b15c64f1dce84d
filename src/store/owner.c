/*
 * owner.c
 *	  Finding the extension's own tables, and becoming their owner and the caller
 *	  again. An error in between ends with the caller, too.
 *
 *	  Statements name the schema profile_stream. Whoever owns a schema decides what
 *	  its names mean, so it must be the extension's, and belong to who owns the
 *	  tables or to a superuser. What was found good stays so until a schema or a
 *	  relation changes.
 *
 *	  The owner's rights do not come with SECURITY_RESTRICTED_OPERATION where
 *	  triggers may fire: deferred ones are refused there, and those on our tables
 *	  are of their owner anyway. Code of users runs in one, see store/function.c and
 *	  ingest/refresh.c.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/dependency.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_namespace.h"
#include "miscadmin.h"
#include "profile_stream.h"
#include "store/owner.h"
#include "store/shadow.h"
#include "utils/acl.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#define EXTENSION "profile_stream"
#define OPERATOR "profile_stream_operator"
#define MAX_CHECKED 64

/* What was found, and whether it is known to be so still. */
static Oid	schema;
static Oid	extension;
static Oid	owner;
static bool known = false;
static uint64 changes = 0;
static Oid	checked[MAX_CHECKED];
static int	nchecked = 0;

static void
forget(Datum arg, int cache, uint32 hash)
{
	changes++;
	known = false;
	nchecked = 0;
}

/* Finds the extension and the schema that it was made in; false when there is none. */
static bool
find_extension(Oid *id, Oid *namespace)
{
	Relation	relation = table_open(ExtensionRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;

	ScanKeyInit(&key, Anum_pg_extension_extname, BTEqualStrategyNumber, F_NAMEEQ, CStringGetDatum(EXTENSION));
	scan = systable_beginscan(relation, ExtensionNameIndexId, true, NULL, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
	{
		*id = ((Form_pg_extension) GETSTRUCT(tuple))->oid;
		*namespace = ((Form_pg_extension) GETSTRUCT(tuple))->extnamespace;
	}
	systable_endscan(scan);
	table_close(relation, AccessShareLock);
	return HeapTupleIsValid(tuple);
}

/* The owner of a relation that is an ordinary table and a member of the extension; InvalidOid when it is not. */
static Oid
owner_of_member(Oid relid)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	Oid			found = InvalidOid;

	if (!HeapTupleIsValid(tuple))
		return InvalidOid;
	if (((Form_pg_class) GETSTRUCT(tuple))->relkind == RELKIND_RELATION &&
		getExtensionOfObject(RelationRelationId, relid) == extension)
		found = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
	ReleaseSysCache(tuple);
	return found;
}

/* Whether names in a schema mean what the owner of the tables wants. */
static bool
is_in_good_hands(Oid namespace)
{
	HeapTuple	tuple = SearchSysCache1(NAMESPACEOID, ObjectIdGetDatum(namespace));
	Oid			whose;

	if (!HeapTupleIsValid(tuple))
		return false;
	whose = ((Form_pg_namespace) GETSTRUCT(tuple))->nspowner;
	ReleaseSysCache(tuple);
	return whose == owner || superuser_arg(whose);
}

static void
refuse(const char *what)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("%s is not that of extension profile_stream", what),
			 errhint("Another role may have put it there. Look who owns it, and drop or rename it.")));
}

/* Finds the schema and the owner of the tables anew. */
static bool
check_schema(void)
{
	static bool watching = false;
	uint64		before = changes;
	Oid			found;
	Oid			shadow;

	if (!watching)
	{
		CacheRegisterSyscacheCallback(NAMESPACEOID, forget, (Datum) 0);
		CacheRegisterSyscacheCallback(RELOID, forget, (Datum) 0);
	}
	watching = true;
	if (!find_extension(&extension, &found))
		return false;
	shadow = get_namespace_oid(PS_SHADOW_SCHEMA, true);
	owner = owner_of_member(get_relname_relid("streams", found));
	if (get_namespace_oid(PS_SCHEMA, true) != found || !OidIsValid(owner) || !is_in_good_hands(found))
		refuse("schema " PS_SCHEMA);
	if (OidIsValid(shadow) &&
		(getExtensionOfObject(NamespaceRelationId, shadow) != extension || !is_in_good_hands(shadow)))
		refuse("schema " PS_SHADOW_SCHEMA);
	schema = found;
	known = before == changes;
	return true;
}

Oid
ps_own_schema(bool missing_ok)
{
	if (known || check_schema())
		return schema;
	if (!missing_ok)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("extension profile_stream does not exist in this database"),
				 errhint("CREATE EXTENSION profile_stream creates it.")));
	return InvalidOid;
}

Oid
ps_own_table(const char *schema_name, const char *name)
{
	Oid			own = ps_own_schema(true);
	Oid			namespace = strcmp(schema_name, PS_SCHEMA) == 0 ? own : get_namespace_oid(schema_name, true);
	Oid			relid = OidIsValid(own) && OidIsValid(namespace) ? get_relname_relid(name, namespace) : InvalidOid;

	if (!OidIsValid(relid))
		return InvalidOid;
	for (int i = 0; i < nchecked; i++)
		if (checked[i] == relid)
			return relid;
	if (!OidIsValid(owner_of_member(relid)))
		refuse(psprintf("table %s.%s", schema_name, name));
	if (known && nchecked < MAX_CHECKED)
		checked[nchecked++] = relid;
	return relid;
}

static PsIdentity
become_owner(int flags)
{
	PsIdentity	identity;

	(void) ps_own_schema(false);
	GetUserIdAndSecContext(&identity.user, &identity.context);
	SetUserIdAndSecContext(owner, identity.context | flags);
	return identity;
}

PsIdentity
ps_become_owner(void)
{
	return become_owner(SECURITY_LOCAL_USERID_CHANGE);
}

PsIdentity
ps_become_reading_owner(void)
{
	return become_owner(SECURITY_LOCAL_USERID_CHANGE | SECURITY_RESTRICTED_OPERATION);
}

void
ps_become_caller(PsIdentity identity)
{
	SetUserIdAndSecContext(identity.user, identity.context);
}

void
ps_check_may_run(Oid role)
{
	if (!has_privs_of_role(role, get_role_oid(OPERATOR, false)))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied for role \"%s\" to run a stream", GetUserNameFromId(role, false)),
				 errhint("GRANT " OPERATOR " TO it.")));
}

/*
 * owner.c
 *	  Finds the tables of the extension, and switches to their owner and back. After
 *	  an error in between, the end of the (sub)transaction restores the caller.
 *
 *	  The owner of a schema decides what its names mean, and the owner of a table what
 *	  its triggers do. So before we use the owner's rights we check schemas and tables.
 *	  They must be members of the extension, and belong to a trusted role: the owner of
 *	  the table streams, or a superuser. The same is checked for functions of triggers,
 *	  which any role with the right TRIGGER may add, and for tables that inherit, as
 *	  partitions do. The result is kept until a schema, relation, function or role
 *	  changes.
 *
 *	  The switch does not set SECURITY_RESTRICTED_OPERATION where triggers may fire,
 *	  because it refuses deferred triggers. Code of users does run in such an
 *	  operation, see store/function.c and scores/refresh.c.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/dependency.h"
#include "catalog/namespace.h"
#include "catalog/objectaddress.h"
#include "catalog/pg_class.h"
#include "catalog/pg_depend.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_trigger.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "settings.h"
#include "store/distributed.h"
#include "store/owner.h"
#include "store/rebuild_schema.h"
#include "store/relation_changes.h"
#include "store/shard_names.h"
#include "store/shards.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#define EXTENSION "profile_stream"
#define OPERATOR "profile_stream_operator"
#define MAX_CHECKED 1024

/* What was found, and whether it is still valid. */
static Oid	schema;
static Oid	extension;
static Oid	owner;
static bool known = false;
static bool all_checked = false;	/* members of the extension were checked too */
static uint64 changes = 0;
static Oid	checked[MAX_CHECKED];
static int	nchecked = 0;

static void
owner_forget(Datum arg, int cache, uint32 hash)
{
	changes++;
	known = all_checked = false;
	nchecked = 0;
}

static bool
is_checked(Oid relid)
{
	for (int i = 0; i < nchecked; i++)
		if (checked[i] == relid)
			return true;
	return false;
}

/* A relation was changed; perhaps it got a trigger. */
static void
owner_relation_changed(Oid relid)
{
	if (!OidIsValid(relid) || is_checked(relid))
		owner_forget((Datum) 0, RELOID, 0);
}

/* Finds the extension and its schema; false when it is not installed. */
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

/* The owner of a schema, relation or function; InvalidOid for another kind of object. */
static Oid
owner_of(Oid class, Oid object)
{
	int			cache = class == NamespaceRelationId ? NAMESPACEOID : class == RelationRelationId ? RELOID : PROCOID;
	HeapTuple	tuple;
	Oid			whose;

	if (class != NamespaceRelationId && class != RelationRelationId && class != ProcedureRelationId)
		return InvalidOid;
	tuple = SearchSysCache1(cache, ObjectIdGetDatum(object));
	if (!HeapTupleIsValid(tuple))
		return InvalidOid;
	whose = class == NamespaceRelationId ? ((Form_pg_namespace) GETSTRUCT(tuple))->nspowner :
		class == RelationRelationId ? ((Form_pg_class) GETSTRUCT(tuple))->relowner : ((Form_pg_proc) GETSTRUCT(tuple))->proowner;
	ReleaseSysCache(tuple);
	return whose;
}

/* Whether an object belongs to a trusted role: the owner of the tables, or a superuser. */
static bool
has_trusted_owner(Oid class, Oid object)
{
	Oid			whose = owner_of(class, object);

	return OidIsValid(whose) && (whose == owner || superuser_arg(whose));
}

/* Whether it is a table, also one with partitions. */
static bool
is_table(Oid relid)
{
	char		kind = get_rel_relkind(relid);

	return kind == RELKIND_RELATION || kind == RELKIND_PARTITIONED_TABLE;
}

static bool
is_member_table(Oid relid)
{
	return is_table(relid) && getExtensionOfObject(RelationRelationId, relid) == extension;
}

static void
owner_refuse(const char *what)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("%s is not the extension's own", what),
			 errhint("It must be a member of extension profile_stream, and belong to the owner of the table streams or to a superuser.")));
}

/* Whether a condition may not call a function: somebody else can replace it, or it can run statements that an argument names. */
static bool
is_unfit_for_condition(Oid function, void *arg)
{
	return func_volatile(function) != PROVOLATILE_IMMUTABLE || !has_trusted_owner(ProcedureRelationId, function);
}

static bool
refuse_condition_walker(Node *node, void *arg)
{
	if (node == NULL)
		return false;
	return IsA(node, CoerceToDomain) || check_functions_in_node(node, is_unfit_for_condition, arg) ||
		expression_tree_walker(node, refuse_condition_walker, arg);
}

/* Raises when the condition of a trigger may run code of another role. */
static void
check_condition(HeapTuple trigger, TupleDesc desc, Oid relid)
{
	bool		isnull;
	Datum		condition = heap_getattr(trigger, Anum_pg_trigger_tgqual, desc, &isnull);

	if (!isnull && refuse_condition_walker(stringToNode(TextDatumGetCString(condition)), NULL))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the condition of trigger \"%s\" of table %s may run code of another role",
						NameStr(((Form_pg_trigger) GETSTRUCT(trigger))->tgname), get_rel_name(relid)),
				 errdetail("It converts to a domain, or calls a function that is not IMMUTABLE or belongs to another role."),
				 errhint("It would run with the rights of the table's owner. Drop the trigger, or put the condition into its function.")));
}

/* Raises unless trusted roles own the functions of a table's triggers, because we run them with the owner's rights. */
static void
check_triggers(Oid relid)
{
	Relation	relation = table_open(TriggerRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;

	ScanKeyInit(&key, Anum_pg_trigger_tgrelid, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(relid));
	scan = systable_beginscan(relation, TriggerRelidNameIndexId, true, NULL, 1, &key);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_trigger trigger = (Form_pg_trigger) GETSTRUCT(tuple);

		if (!trigger->tgisinternal && !has_trusted_owner(ProcedureRelationId, trigger->tgfoid))
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("trigger \"%s\" of table %s runs a function of another role", NameStr(trigger->tgname), get_rel_name(relid)),
					 errhint("It would run with the rights of the table's owner. Make that role the owner of the function, or drop the trigger.")));
		check_condition(tuple, RelationGetDescr(relation), relid);
	}
	systable_endscan(scan);
	table_close(relation, AccessShareLock);
}

/* Raises unless trusted roles own a table, view or sequence of the extension, the functions of its triggers, and what inherits from it. */
static void
check_relation(Oid relid, const char *what)
{
	uint64		before = changes;
	ListCell   *cell;

	if (is_checked(relid))
		return;
	if (!has_trusted_owner(RelationRelationId, relid))
		owner_refuse(what);
	check_triggers(relid);
	if (has_subclass(relid))
		foreach(cell, find_inheritance_children(relid, AccessShareLock))
			check_relation(lfirst_oid(cell), psprintf("table %s, which inherits,", get_rel_name(lfirst_oid(cell))));
	if (before == changes && known && nchecked < MAX_CHECKED)
		checked[nchecked++] = relid;
}

/* Raises unless trusted roles own all relations and functions of the extension. */
static void
check_members(void)
{
	uint64		before = changes;
	Relation	relation = table_open(DependRelationId, AccessShareLock);
	ScanKeyData keys[2];
	SysScanDesc scan;
	HeapTuple	tuple;

	ScanKeyInit(&keys[0], Anum_pg_depend_refclassid, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(ExtensionRelationId));
	ScanKeyInit(&keys[1], Anum_pg_depend_refobjid, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(extension));
	scan = systable_beginscan(relation, DependReferenceIndexId, true, NULL, 2, keys);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_depend member = (Form_pg_depend) GETSTRUCT(tuple);
		ObjectAddress object = {member->classid, member->objid, 0};

		if (member->deptype != DEPENDENCY_EXTENSION)
			continue;
		if (member->classid == RelationRelationId)
			check_relation(member->objid, getObjectDescription(&object, false));
		else if (member->classid == ProcedureRelationId && !has_trusted_owner(member->classid, member->objid))
			owner_refuse(getObjectDescription(&object, false));
	}
	systable_endscan(scan);
	table_close(relation, AccessShareLock);
	all_checked = before == changes && known && nchecked < MAX_CHECKED;
}

/* Raises unless a schema that the extension's script makes is the extension's own. */
static void
check_made_schema(const char *name)
{
	Oid			namespace = get_namespace_oid(name, true);

	if (OidIsValid(namespace) &&
		(getExtensionOfObject(NamespaceRelationId, namespace) != extension || !has_trusted_owner(NamespaceRelationId, namespace)))
		owner_refuse(psprintf("schema %s", name));
}

/* Finds the schema and the owner of the tables again. */
static bool
check_schema(void)
{
	static bool watching = false;
	uint64		before = changes;
	Oid			found;
	Oid			streams;

	if (!watching)
	{
		CacheRegisterSyscacheCallback(NAMESPACEOID, owner_forget, (Datum) 0);
		CacheRegisterSyscacheCallback(RELOID, owner_forget, (Datum) 0);
		CacheRegisterSyscacheCallback(PROCOID, owner_forget, (Datum) 0);
		CacheRegisterSyscacheCallback(AUTHOID, owner_forget, (Datum) 0);
		ps_on_relation_change(owner_relation_changed);
	}
	watching = true;
	if (!find_extension(&extension, &found))
		return false;
	streams = get_relname_relid("streams", found);
	owner = owner_of(RelationRelationId, streams);
	if (get_namespace_oid(PS_SCHEMA, true) != found || !is_member_table(streams) || !has_trusted_owner(NamespaceRelationId, found))
		owner_refuse("schema " PS_SCHEMA);
	check_made_schema(PS_INTERNAL_SCHEMA);
	check_made_schema(PS_REBUILD_SCHEMA);
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
				 errhint("Run CREATE EXTENSION profile_stream.")));
	return InvalidOid;
}

/* The table of the shard in use in place of a distributed table; it is no member of the extension. */
static Oid
table_of_shard(Oid relid, const char *name, const char *what)
{
	Oid			shard = ps_shard_names_relation(ps_shards_used(), relid, name);

	if (shard != relid && OidIsValid(shard))
		check_relation(shard, what);
	return shard;
}

Oid
ps_own_table(bool in_rebuild, const char *name)
{
	const char *schema_name = ps_schema_of(in_rebuild, name);
	Oid			own = ps_own_schema(true);
	Oid			namespace = strcmp(schema_name, PS_SCHEMA) == 0 ? own : get_namespace_oid(schema_name, true);
	const char *what;
	Oid			relid = OidIsValid(own) && OidIsValid(namespace) ? get_relname_relid(name, namespace) : InvalidOid;

	if (!OidIsValid(relid))
		return InvalidOid;
	if (is_table(relid) && is_checked(relid) && ps_shards_used() == PS_NO_SHARD)
		return relid;
	what = psprintf("table %s.%s", schema_name, name);
	if (!is_checked(relid) && !is_member_table(relid))
		owner_refuse(what);
	check_relation(relid, what);
	return in_rebuild ? relid : table_of_shard(relid, name, what);
}

static PsSavedUser
become_owner(int flags)
{
	PsSavedUser saved;

	GetUserIdAndSecContext(&saved.user, &saved.context);
	SetUserIdAndSecContext(owner, saved.context | flags);
	return saved;
}

/* Checks everything that our statements may use. */
static void
check_all(void)
{
	(void) ps_own_schema(false);
	if (!all_checked)
		check_members();
	ps_distributed_check(InvalidOid);
}

PsSavedUser
ps_switch_to_owner(void)
{
	check_all();
	return become_owner(SECURITY_LOCAL_USERID_CHANGE);
}

PsSavedUser
ps_switch_to_owner_for(bool in_rebuild, const char *name)
{
	ps_distributed_check(ps_own_table(in_rebuild, name));
	(void) ps_own_schema(false);
	return become_owner(SECURITY_LOCAL_USERID_CHANGE);
}

PsSavedUser
ps_switch_to_reading_owner(void)
{
	check_all();
	return become_owner(SECURITY_LOCAL_USERID_CHANGE | SECURITY_RESTRICTED_OPERATION);
}

void
ps_restore_user(PsSavedUser saved)
{
	SetUserIdAndSecContext(saved.user, saved.context);
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

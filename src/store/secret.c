/*
 * secret.c
 *	  Reads the only row of database_secret. It is read without a statement: an index
 *	  needs the secret whenever any role writes its table, but no role may select it.
 *	  A process reads it once, and again when the table was created anew.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/dependency.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "commands/extension.h"
#include "settings.h"
#include "store/secret.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#define SECRET_BYTES 32

/* The secret; each half is a key for one purpose. */
typedef struct Secret
{
	PsHashKey	stored;
	PsHashKey	names;
} Secret;

StaticAssertDecl(sizeof(Secret) == SECRET_BYTES, "a secret has two keys");

static Secret secret;
static Oid	secret_relid = InvalidOid;	/* the table from which it was read; invalid: not yet */

static void
forget_secret(Datum arg, Oid relid)
{
	if (relid == InvalidOid || relid == secret_relid)
		secret_relid = InvalidOid;
}

/* Finds the table, which must belong to the extension: in a table of somebody else the secret would be known. */
static Oid
find_table(void)
{
	Oid			schema = get_namespace_oid(PS_INTERNAL_SCHEMA, true);
	Oid			relid = OidIsValid(schema) ? get_relname_relid("database_secret", schema) : InvalidOid;
	Oid			extension = OidIsValid(relid) ? getExtensionOfObject(RelationRelationId, relid) : InvalidOid;

	if (!OidIsValid(extension) || extension != get_extension_oid("profile_stream", true))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("table profile_stream_internal.database_secret does not exist, or does not belong to the extension"),
				 errhint("Run CREATE EXTENSION profile_stream before you restore a dump.")));
	return relid;
}

static void
read_secret(void)
{
	static bool registered = false;
	Oid			relid = find_table();
	Relation	relation = table_open(relid, AccessShareLock);
	SysScanDesc scan = systable_beginscan(relation, InvalidOid, false, NULL, 0, NULL);
	HeapTuple	tuple = systable_getnext(scan);
	bytea	   *value = NULL;
	bool		isnull;

	if (!registered)
		CacheRegisterRelcacheCallback(forget_secret, (Datum) 0);
	registered = true;
	if (HeapTupleIsValid(tuple))
		value = DatumGetByteaPP(heap_getattr(tuple, 2, RelationGetDescr(relation), &isnull));
	if (value == NULL || VARSIZE_ANY_EXHDR(value) != SECRET_BYTES)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("table profile_stream_internal.database_secret does not hold a secret")));
	memcpy(&secret, VARDATA_ANY(value), SECRET_BYTES);
	systable_endscan(scan);
	table_close(relation, AccessShareLock);
	secret_relid = relid;
}

const PsHashKey *
ps_secret_hash_key(void)
{
	if (!OidIsValid(secret_relid))
		read_secret();
	return &secret.stored;
}

char *
ps_secret_name(const char *name)
{
	if (!OidIsValid(secret_relid))
		read_secret();
	return psprintf("%s_%016llx", name, (unsigned long long) ps_keyed_hash(&secret.names, name, strlen(name)));
}

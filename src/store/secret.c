/*
 * secret.c
 *	  Reads the keys of the database: the only row of database_secret, and that of
 *	  event_id_keys. They are read without a statement, because no role may select
 *	  them. A process reads the secret once, and again when its table was created
 *	  anew. It reads the key of event ids for each transaction, because a restore or
 *	  a subscription may bring another one at any time.
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
#include "store/relation_changes.h"
#include "store/secret.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

/* A key, and the table from which it was read; invalid: it was not read yet. */
typedef struct StoredKey
{
	const char *table;
	PsHashKey	key;
	Oid			relid;
} StoredKey;

static StoredKey names_key =
{
	.table = "database_secret"
};
static StoredKey ids_key =
{
	.table = "event_id_keys"
};

static void
forget_keys(Oid relid)
{
	if (relid == InvalidOid || relid == names_key.relid)
		names_key.relid = InvalidOid;
	if (relid == InvalidOid || relid == ids_key.relid)
		ids_key.relid = InvalidOid;
}

/* Finds a table, which must belong to the extension: in a table of somebody else the key would be known. */
static Oid
secret_find_table(const char *name)
{
	Oid			schema = get_namespace_oid(PS_INTERNAL_SCHEMA, true);
	Oid			relid = OidIsValid(schema) ? get_relname_relid(name, schema) : InvalidOid;
	Oid			extension = OidIsValid(relid) ? getExtensionOfObject(RelationRelationId, relid) : InvalidOid;

	if (!OidIsValid(extension) || extension != get_extension_oid("profile_stream", true))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("table profile_stream_internal.%s does not exist, or does not belong to the extension", name),
				 errhint("Run CREATE EXTENSION profile_stream before you restore a dump.")));
	return relid;
}

/* Reads the key of the only row, or the oldest one; its columns are the moment when it was made, and the key. */
static void
read_key(StoredKey *stored)
{
	Oid			relid = OidIsValid(stored->relid) ? stored->relid : secret_find_table(stored->table);
	Relation	relation = table_open(relid, AccessShareLock);
	SysScanDesc scan = systable_beginscan(relation, InvalidOid, false, NULL, 0, NULL);
	HeapTuple	tuple;
	TimestampTz oldest = DT_NOEND;

	ps_on_relation_change(forget_keys);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		bool		isnull[2];
		Datum		made_at = heap_getattr(tuple, 1, RelationGetDescr(relation), &isnull[0]);
		Datum		value = heap_getattr(tuple, 2, RelationGetDescr(relation), &isnull[1]);

		if (isnull[0] || isnull[1] || DatumGetTimestampTz(made_at) >= oldest ||
			VARSIZE_ANY_EXHDR(DatumGetByteaPP(value)) != sizeof(PsHashKey))
			continue;
		oldest = DatumGetTimestampTz(made_at);
		memcpy(&stored->key, VARDATA_ANY(DatumGetByteaPP(value)), sizeof(PsHashKey));
	}
	systable_endscan(scan);
	table_close(relation, AccessShareLock);
	if (oldest == DT_NOEND)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("table profile_stream_internal.%s does not hold a key", stored->table)));
	stored->relid = relid;
}

const PsHashKey *
ps_event_id_key(void)
{
	read_key(&ids_key);
	return &ids_key.key;
}

char *
ps_secret_name(const char *name)
{
	if (!OidIsValid(names_key.relid))
		read_key(&names_key);
	return psprintf("%s_%016llx", name, (unsigned long long) ps_keyed_hash(&names_key.key, name, strlen(name)));
}

/*
 * extension.c
 *	  Checks that the library and the objects of the database have the same version.
 *	  After an upgrade of the package they may not: the server runs the old library
 *	  until it is restarted, and a database has the old objects until ALTER EXTENSION.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/indexing.h"
#include "catalog/pg_extension.h"
#include "store/extension.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/rel.h"
#include "utils/syscache.h"

static bool checked = false;

/* A function was changed, perhaps by an update of the extension; pg_extension itself has no cache that could tell us. */
static void
function_changed(Datum arg, int cacheid, uint32 hashvalue)
{
	checked = false;
}

char *
ps_extension_version(void)
{
	Relation	relation = table_open(ExtensionRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;
	char	   *version = NULL;

	ScanKeyInit(&key, Anum_pg_extension_extname, BTEqualStrategyNumber, F_NAMEEQ, CStringGetDatum("profile_stream"));
	scan = systable_beginscan(relation, ExtensionNameIndexId, true, NULL, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
	{
		bool		isnull;
		Datum		value = heap_getattr(tuple, Anum_pg_extension_extversion, RelationGetDescr(relation), &isnull);

		version = TextDatumGetCString(value);
	}
	systable_endscan(scan);
	table_close(relation, AccessShareLock);
	return version;
}

/* Compares two versions part by part; the result is as that of strcmp(). */
static int
compare_versions(const char *a, const char *b)
{
	while (*a != '\0' || *b != '\0')
	{
		char	   *a_end;
		char	   *b_end;
		long		a_part = strtol(a, &a_end, 10);
		long		b_part = strtol(b, &b_end, 10);

		if (a_part != b_part)
			return a_part < b_part ? -1 : 1;
		if (a_end == a && b_end == b)
			return strcmp(a, b);
		a = *a_end == '.' ? a_end + 1 : a_end;

		b = *b_end == '.' ? b_end + 1 : b_end;
	}
	return 0;
}

bool
ps_extension_is_doubtful(void)
{
	return !checked;
}

char *
ps_extension_mismatch(const char **hint)
{
	static bool watched = false;
	char	   *version;

	if (checked)
		return NULL;
	if (!watched)
		CacheRegisterSyscacheCallback(PROCOID, function_changed, (Datum) 0);
	watched = true;
	version = ps_extension_version();
	checked = version != NULL && strcmp(version, PS_VERSION) == 0;
	if (checked || version == NULL)
		return NULL;
	*hint = compare_versions(version, PS_VERSION) < 0 ? "Run ALTER EXTENSION profile_stream UPDATE in this database."
		: "The server still runs the library that it began with: restart it.";
	return psprintf("extension profile_stream is of version %s in this database, and its library of version %s", version, PS_VERSION);
}

void
ps_extension_check(void)
{
	const char *hint;
	char	   *error = ps_extension_mismatch(&hint);

	if (error != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("%s", error),
				 errhint("%s", hint)));
}

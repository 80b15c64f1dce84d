/*
 * file_systems.c
 *	  Room on the file systems that this database grows on, for health() and
 *	  storage_days_left().
 */
#include "postgres.h"

#include <sys/stat.h>
#include <sys/statvfs.h>

#include "access/xlog_internal.h"
#include "common/relpath.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"

/* Adds the file system of a folder, unless it cannot be asked: nobody's query shall fail for that. */
static void
file_system_add(ReturnSetInfo *rsinfo, const char *holds, const char *folder)
{
	struct statvfs room;
	Datum		values[3];
	bool		nulls[3] = {false};

	if (statvfs(folder, &room) != 0)
		return;
	values[0] = DirectFunctionCall1(namein, CStringGetDatum(holds));
	values[1] = Int64GetDatum((int64) (room.f_blocks * room.f_frsize));
	values[2] = Int64GetDatum((int64) (room.f_bavail * room.f_frsize));
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

/* It names no folder, because monitors see its rows. */
PG_FUNCTION_INFO_V1(ps_file_systems);
Datum
ps_file_systems(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	char	   *data = GetDatabasePath(MyDatabaseId, MyDatabaseTableSpace);
	struct stat of_data;
	struct stat of_wal;

	InitMaterializedSRF(fcinfo, 0);
	file_system_add(rsinfo, "data", data);
	if (stat(data, &of_data) != 0 || stat(XLOGDIR, &of_wal) != 0 || of_data.st_dev != of_wal.st_dev)
		file_system_add(rsinfo, "WAL", XLOGDIR);
	return (Datum) 0;
}

/*
 * rebuild_schema.h
 *	  The rebuild schema: a second copy of the tables that a stream fills. The worker
 *	  of a rebuild runs the same code as that of a stream, with statements whose
 *	  schema is replaced here.
 *
 *	  copy		a table of the schema profile_stream_rebuild. It has the name and the
 *				indexes of the original, and is empty while no rebuild runs
 */
#ifndef PS_REBUILD_SCHEMA_H
#define PS_REBUILD_SCHEMA_H

#include "postgres.h"

#define PS_REBUILD_SCHEMA "profile_stream_rebuild"

/* Makes this process work on the rebuild schema from now on. To be called before its first statement. */
extern void ps_rebuild_schema_use(void);
extern bool ps_rebuild_schema_used(void);

/* Notes whether other processes write the rebuild schema, too: those of other streams. */
extern void ps_rebuild_schema_share(bool shared);
extern bool ps_rebuild_schema_shared(void);

/* The schema of a table of the extension; with in_rebuild the rebuild schema, if the table has a copy there. */
extern const char *ps_schema_of(bool in_rebuild, const char *table);

/* The statement with the schemas on which this process works. */
extern const char *ps_rebuild_schema_sql(const char *sql);

#endif							/* PS_REBUILD_SCHEMA_H */

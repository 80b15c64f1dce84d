/*
 * rebuild_schema.h
 *	  The second copy of the tables that a stream fills. A rebuild works on it:
 *	  the same code, whose statements and look-ups by name come here.
 *
 *	  shadow	tables of the schema profile_stream_rebuild, empty while no rebuild
 *				is under way, with the names of tables and indexes of
 *				profile_stream
 */
#ifndef PS_REBUILD_SCHEMA_H
#define PS_REBUILD_SCHEMA_H

#include "postgres.h"

#define PS_SHADOW_SCHEMA "profile_stream_rebuild"

/* Makes this process work on the shadow for the rest of its life, before it has run any statement. */
extern void ps_rebuild_schema_use(void);
extern bool ps_rebuild_schema_used(void);

/* The schema that holds a table of the extension; shadow: the schema of its second copy, for tables that have one. */
extern const char *ps_schema_of(bool shadow, const char *table);

/* A statement with the tables' schemas that are this process's. */
extern const char *ps_rebuild_schema_sql(const char *sql);

#endif							/* PS_REBUILD_SCHEMA_H */

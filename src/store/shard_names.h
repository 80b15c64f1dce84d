/*
 * shard_names.h
 *	  The names of tables and indexes of shards, in place of those of the distributed tables.
 */
#ifndef PS_SHARD_NAMES_H
#define PS_SHARD_NAMES_H

#include "postgres.h"

#include "store/distributed.h"

/*
 * A row p of the profiles as an argument of a function: a row of a shard has a type of its own, and functions take that of the
 * table. In quotes its name is not taken for that of the shard.
 */
#define PS_ROW_OF_PROFILES "ROW(p.*)::profile_stream.\"materialized_profiles\""

/* The relation of a shard in place of a relation of the extension; with PS_NO_SHARD that itself. */
extern Oid	ps_shard_names_relation(int shard, Oid relid, const char *name);

/* The name of an index of a table, of the shard in use. */
extern const char *ps_shard_names_index(const char *table, const char *index);

/* Whether a statement names a table that is distributed; which one goes to *table. */
extern bool ps_shard_names_find(const char *sql, PsSharded *table);

/* The same where profiles are distributed and no shard is in use: the statement would need all rows of the table. */
extern bool ps_shard_names_missing(const char *sql, PsSharded *table);

/* The statement on the tables of the shard in use. */
extern const char *ps_shard_names_sql(const char *sql);

/* The view profiles, as FROM takes it; where profiles are distributed its definition, on the shard in use. Who may read the view is not asked there. */
extern const char *ps_shard_names_profiles(void);

#endif							/* PS_SHARD_NAMES_H */

/*
 * profile_store.c
 *	  Loads and saves profiles: directly while the table is plain, else with one
 *	  SELECT, one UPDATE and one INSERT for each batch.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "store/direct_heap.h"
#include "store/lock_wait.h"
#include "store/locks.h"
#include "store/plan.h"
#include "store/profile_store.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#define TABLE_NAME "materialized_profiles"
#define KEY_NAME "materialized_profiles_pkey"

#define FEW_ROWS 64				/* few enough to be still in the processor's cache when they are saved */
#define PLACES (512 * 1024)		/* 6 MB */

/* the columns as parts of statements, separated by commas */
#define NAME(column, kind, access, initial, member) #column
#define STORED(column, kind, access, initial, member) "p." #column
#define SET(column, kind, access, initial, member) #column " = n." #column
#define COLUMN_NAMES "customer_id, " PS_PROFILE_COLUMNS(NAME, ", ")
#define STORED_COLUMNS "p.customer_id, " PS_PROFILE_COLUMNS(STORED, ", ")

#define NEW_ROWS(columns) " FROM ROWS FROM (" PS_PLAN_ARRAYS ") AS n(" columns ")"

#define ARRAY_TYPE(column, kind, access, initial, member) PS_SQL_TYPE_##kind(ARRAYOID),
#define ARRAY_TYPES {TEXTARRAYOID, PS_PROFILE_COLUMNS(ARRAY_TYPE,)}

static PsPlan load_plan = {
	"SELECT " STORED_COLUMNS ", p.segment, p.churn_risk_score, p.lifetime_value, p.scored_at, k.ordinality::int4, p.xmax"
	" FROM pg_catalog.unnest($1) WITH ORDINALITY AS k(customer_id, ordinality)"
	" JOIN profile_stream.materialized_profiles p ON p.customer_id = k.customer_id",
	1, {TEXTARRAYOID}
};

static PsPlan insert_plan = {
	"INSERT INTO profile_stream.materialized_profiles (" COLUMN_NAMES ")"
	" SELECT " COLUMN_NAMES NEW_ROWS(COLUMN_NAMES),
	PS_ROW_COLUMNS, ARRAY_TYPES,.first_array = 1
};

/* a row whose version is not the one that was read is left out */
static PsPlan update_plan = {
	"UPDATE profile_stream.materialized_profiles p SET " PS_PROFILE_COLUMNS(SET, ", ")
	NEW_ROWS(COLUMN_NAMES ", version_read") " WHERE p.customer_id = n.customer_id AND p.version = n.version_read",
	PS_ROW_COLUMNS + 1, {TEXTARRAYOID, PS_PROFILE_COLUMNS(ARRAY_TYPE,) INT8ARRAYOID},.first_array = 1
};

static PsPlan changed_plan = {
	"SELECT pg_catalog.count(*) FROM profile_stream.materialized_profiles p JOIN ROWS FROM (" PS_PLAN_ARRAYS ") AS n(customer_id, version_read)"
	" ON p.customer_id = n.customer_id WHERE p.version <> n.version_read",
	2, {TEXTARRAYOID, INT8ARRAYOID},.first_array = 1
};

static PsPlan expired_plan = {
	"SELECT p.customer_id FROM profile_stream.materialized_profiles p"
	" WHERE profile_stream_internal.window_expired(p.window_state, $1) LIMIT $2",
	2, {TIMESTAMPTZOID, INT8OID}
};

static PsPlan segments_plan = {
	"SELECT k.ordinality::int4, p.segment FROM pg_catalog.unnest($1) WITH ORDINALITY AS k(customer_id, ordinality)"
	" JOIN profile_stream.materialized_profiles p ON p.customer_id = k.customer_id",
	1, {TEXTARRAYOID}
};

static PsPlan seed_plan = {
	"UPDATE profile_stream.materialized_profiles p SET segment = COALESCE(n.segment, p.segment),"
	" churn_risk_score = COALESCE(n.churn_risk_score::float8, p.churn_risk_score), lifetime_value = COALESCE(n.lifetime_value, p.lifetime_value)"
	" FROM ROWS FROM (" PS_PLAN_ARRAYS ") AS n(customer_id, segment, churn_risk_score, lifetime_value)"
	" WHERE p.customer_id = n.customer_id",
	4, {TEXTARRAYOID, TEXTARRAYOID, NUMERICARRAYOID, NUMERICARRAYOID},.first_array = 1
};

static Datum
customer_id_datum(const PsStoredProfile *stored)
{
	return PointerGetDatum(cstring_to_text_with_len(stored->customer_id, stored->customer_id_len));
}

/*
 * Where a worker has seen the row of a customer last. This saves the descent of the
 * index. It is only a guess: the row there is used if it is visible and belongs to
 * the customer; otherwise the index is searched. Customers may share an entry, and
 * then the last one is remembered.
 */
typedef struct Place
{
	uint16		check;			/* other bits of the hash than those that select the entry */
	ItemPointerData tid;		/* invalid: the row was not seen yet */
	Buffer		buffer;			/* in which the page was; InvalidBuffer: not known */
} Place;

static Place *places = NULL;

struct PsProfileTable
{
	bool		is_plain;
	PsDirectTable direct;		/* while it is plain */
};

PsProfileTable *
ps_profiles_open(void)
{
	PsProfileTable *table = palloc(sizeof(PsProfileTable));

	table->is_plain = ps_direct_open(&table->direct, TABLE_NAME, KEY_NAME, ps_profile_types, PS_ROW_segment + 1, PS_ROW_ALL_COLUMNS);
	return table;
}

void
ps_profiles_close(PsProfileTable * table)
{
	if (table->is_plain)
		ps_direct_close(&table->direct);
	pfree(table);
}

/* The entry for a customer's row. NULL in a session, where the memory would not pay off. */
static Place *
profile_store_find_place(uint32 hash)
{
	Place	   *place;

	if (places == NULL)
	{
		if (MyBackendType != B_BG_WORKER)
			return NULL;
		places = MemoryContextAllocZero(TopMemoryContext, PLACES * sizeof(Place));
	}
	place = &places[hash % PLACES];
	if (place->check != hash >> 16)
	{
		place->check = hash >> 16;
		ItemPointerSetInvalid(&place->tid);
		place->buffer = InvalidBuffer;
	}
	return place;
}

static void
remember_place(const PsStoredProfile *stored, ItemPointer tid)
{
	Place	   *place = tid == NULL ? NULL : profile_store_find_place(stored->hash);

	if (place == NULL)
		return;
	place->tid = *tid;
	place->buffer = InvalidBuffer;
}

/* Deforms a row; returns whether it belongs to the customer. */
static bool
read_values(PsStoredProfile *stored, HeapTuple row, TupleDesc desc)
{
	text	   *customer_id;

	heap_deform_tuple(row, desc, stored->values, stored->nulls);
	customer_id = DatumGetTextPP(stored->values[PS_ROW_customer_id]);
	return VARSIZE_ANY_EXHDR(customer_id) == stored->customer_id_len &&
		memcmp(VARDATA_ANY(customer_id), stored->customer_id, stored->customer_id_len) == 0;
}

/* Finds and deforms the row of a customer: where it was seen last, or else by the index. NULL when there is none. */
static HeapTuple
profile_store_find_row(PsDirectTable *table, PsStoredProfile *stored, Place *place)
{
	TupleDesc	desc = RelationGetDescr(table->relation);
	HeapTuple	row;

	if (place != NULL && ItemPointerIsValid(&place->tid))
	{
		row = ps_direct_fetch_at(table, &place->tid, &place->buffer);
		if (row != NULL && read_values(stored, row, desc))
			return row;
	}
	row = ps_direct_find(table, customer_id_datum(stored));
	if (row == NULL && TransactionIdIsValid(table->inserting))
		stored->holder = ps_lock_wait_holder(table->inserting);
	if (row == NULL || !read_values(stored, row, desc))
		return NULL;
	if (place != NULL)
	{
		place->tid = ps_direct_root_tid(table);
		place->buffer = table->buffer;
	}
	return row;
}

int64
ps_profiles_place(uint32 hash)
{
	const Place *place = profile_store_find_place(hash);

	if (place == NULL || !ItemPointerIsValid(&place->tid))
		return PG_INT64_MAX;
	return (int64) ItemPointerGetBlockNumber(&place->tid) << 16 | ItemPointerGetOffsetNumber(&place->tid);
}

/* Whether it is known in which buffer the row was. */
static bool
is_seen(const Place *place)
{
	return place != NULL && ItemPointerIsValid(&place->tid) && BufferIsValid(place->buffer);
}

/* Loads rows through the table's primary key. */
static void
load_plain(PsDirectTable *table, PsStoredProfile **profiles, int n)
{
	Place	  **found = palloc(n * sizeof(Place *));

	/* one step for all before the next step, so that the processor waits for many pieces of memory at once */
	for (int i = 0; i < n; i++)
		found[i] = profile_store_find_place(profiles[i]->hash);
	for (int i = 0; i < n; i++)
		if (is_seen(found[i]))
			ps_direct_prefetch_page(&found[i]->tid, found[i]->buffer);
	for (int i = 0; i < n; i++)
		if (is_seen(found[i]))
			ps_direct_prefetch_row(&found[i]->tid, found[i]->buffer);
	for (int i = 0; i < n; i++)
	{
		TransactionId holder;

		profiles[i]->holder = 0;
		profiles[i]->row = profile_store_find_row(table, profiles[i], found[i]);
		if (profiles[i]->row == NULL)
		{
			ps_profile_init(&profiles[i]->profile);
			continue;
		}
		ps_profile_row_read(&profiles[i]->profile, profiles[i]->values, profiles[i]->nulls);
		holder = ps_direct_row_holder(table, profiles[i]->row);
		if (TransactionIdIsValid(holder))
			profiles[i]->holder = ps_lock_wait_holder(holder);
	}
	pfree(found);
}

static void
load_by_statement(PsStoredProfile **profiles, int n)
{
	PsColumn	ids;
	Datum		args[1];
	uint64		found;
	bool		any_locked = false;

	ps_column_init(&ids, TEXTOID, n);
	for (int i = 0; i < n; i++)
	{
		ps_profile_init(&profiles[i]->profile);
		profiles[i]->row = NULL;
		profiles[i]->holder = 0;
		ps_column_add_text(&ids, profiles[i]->customer_id);
	}
	args[0] = ps_column_array(&ids);
	found = ps_plan_run(&load_plan, args, NULL, SPI_OK_SELECT);
	ps_plan_check_types(ps_profile_types, PS_ROW_ALL_COLUMNS);
	for (uint64 i = 0; i < found; i++)
	{
		Datum		values[PS_ROW_ALL_COLUMNS + 2];
		bool		nulls[PS_ROW_ALL_COLUMNS + 2];
		PsStoredProfile *stored;
		TransactionId holder;

		heap_deform_tuple(heap_copytuple(SPI_tuptable->vals[i]), SPI_tuptable->tupdesc, values, nulls);
		stored = profiles[DatumGetInt32(values[PS_ROW_ALL_COLUMNS]) - 1];
		memcpy(stored->values, values, sizeof(stored->values));
		memcpy(stored->nulls, nulls, sizeof(stored->nulls));
		ps_profile_row_read(&stored->profile, values, nulls);
		holder = nulls[PS_ROW_ALL_COLUMNS + 1] ? InvalidTransactionId :
			ps_xmax_holder(DatumGetTransactionId(values[PS_ROW_ALL_COLUMNS + 1]));
		if (!TransactionIdIsValid(holder))
			continue;
		stored->holder = ps_lock_wait_holder(holder);
		any_locked = true;
	}
	SPI_freetuptable(SPI_tuptable);
	if (any_locked)
		ps_profiles_find_free(profiles, n);
}

int
ps_profiles_at_once(const PsProfileTable * table)
{
	return table->is_plain ? FEW_ROWS : INT_MAX;
}

void
ps_profiles_load(PsProfileTable * table, PsStoredProfile **profiles, int n)
{
	if (table->is_plain)
		load_plain(&table->direct, profiles, n);
	else if (n > 0)
		load_by_statement(profiles, n);
}

/* Inserts rows, or updates them. Raises when a row was deleted or changed meanwhile; the next attempt reads it again. */
static void
write_rows(Datum *args, int nrows, bool is_new)
{
	Datum		read[2] = {args[PS_ROW_customer_id], args[PS_ROW_COLUMNS]};
	uint64		written = ps_plan_run(is_new ? &insert_plan : &update_plan, args, NULL, is_new ? SPI_OK_INSERT : SPI_OK_UPDATE);

	if (written == nrows)
		return;
	if (!is_new && ps_plan_number(&changed_plan, read) > 0)
		ps_direct_complain_of_change(TABLE_NAME);
	ps_plan_complain(TABLE_NAME, nrows - written, nrows);
}

/* Writes all new profiles, or all others. */
static void
save_by_statement(PsStoredProfile **profiles, int n, bool is_new)
{
	PsColumn	columns[PS_ROW_COLUMNS + 1];
	Datum		args[PS_ROW_COLUMNS + 1];

	for (int c = 0; c < PS_ROW_COLUMNS; c++)
		ps_column_init(&columns[c], ps_profile_types[c], n);
	ps_column_init(&columns[PS_ROW_COLUMNS], INT8OID, n);
	for (int i = 0; i < n; i++)
	{
		Datum		values[PS_ROW_COLUMNS];
		bool		nulls[PS_ROW_COLUMNS];

		if (profiles[i]->profile.is_new != is_new)
			continue;
		values[PS_ROW_customer_id] = customer_id_datum(profiles[i]);
		ps_profile_row_write(&profiles[i]->profile, values, nulls);
		for (int c = 0; c < PS_ROW_COLUMNS; c++)
		{
			if (nulls[c])
				ps_column_add_null(&columns[c]);
			else
				ps_column_add(&columns[c], values[c]);
		}
		ps_column_add(&columns[PS_ROW_COLUMNS], is_new ? (Datum) 0 : profiles[i]->values[PS_ROW_version]);
	}
	if (columns[0].n == 0)
		return;
	for (int c = 0; c <= PS_ROW_COLUMNS; c++)
		args[c] = ps_column_array(&columns[c]);
	write_rows(args, columns[0].n, is_new);
}

static void
save_plain(PsDirectTable *table, PsStoredProfile **profiles, int n)
{
	for (int i = 0; i < n; i++)
	{
		PsStoredProfile *stored = profiles[i];

		ps_profile_row_write(&stored->profile, stored->values, stored->nulls);
		if (stored->profile.is_new)
		{
			stored->values[PS_ROW_customer_id] = customer_id_datum(stored);
			ps_direct_insert(table, stored->values, stored->nulls, PS_ROW_COLUMNS, &stored->place);
		}
		else
			remember_place(stored, ps_direct_update(table, &stored->row->t_self, stored->values, stored->nulls));
	}
	ps_direct_flush(table);
	for (int i = 0; i < n; i++)
		if (profiles[i]->profile.is_new)
			remember_place(profiles[i], &profiles[i]->place);
}

void
ps_profiles_save(PsProfileTable * table, PsStoredProfile **profiles, int n)
{
	if (table->is_plain)
	{
		save_plain(&table->direct, profiles, n);
		return;
	}
	if (n == 0)
		return;
	save_by_statement(profiles, n, false);
	save_by_statement(profiles, n, true);
}

int
ps_profiles_find_expired(TimestampTz now, int limit, PsStoredProfile **profiles)
{
	Datum		args[2] = {TimestampTzGetDatum(now), Int64GetDatum(limit)};
	uint64		found = ps_plan_run(&expired_plan, args, NULL, SPI_OK_SELECT);

	for (uint64 i = 0; i < found; i++)
	{
		bool		isnull;

		profiles[i] = palloc0(sizeof(PsStoredProfile));
		profiles[i]->customer_id =
			TextDatumGetCString(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull));
		profiles[i]->customer_id_len = strlen(profiles[i]->customer_id);
		profiles[i]->hash = (uint32) ps_lock_key(profiles[i]->customer_id, profiles[i]->customer_id_len);
	}
	SPI_freetuptable(SPI_tuptable);
	return (int) found;
}

/* Reads the segments of profiles that were not loaded directly; ids has a null for the others. */
static void
read_segments(const PsColumn *ids, const char **segments)
{
	Datum		args[1] = {ps_column_array(ids)};
	uint64		found = ps_plan_run(&segments_plan, args, NULL, SPI_OK_SELECT);

	for (uint64 i = 0; i < found; i++)
	{
		bool		isnull;
		Datum		ordinality = SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull);

		segments[DatumGetInt32(ordinality) - 1] = SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 2);
	}
	SPI_freetuptable(SPI_tuptable);
}

void
ps_profiles_segments(PsStoredProfile **profiles, int n, const char **segments)
{
	PsColumn	ids;
	int			unknown = 0;

	ps_column_init(&ids, TEXTOID, n);
	for (int i = 0; i < n; i++)
	{
		if (profiles[i]->row != NULL && !profiles[i]->nulls[PS_ROW_segment])
		{
			segments[i] = TextDatumGetCString(profiles[i]->values[PS_ROW_segment]);
			ps_column_add_null(&ids);
			continue;
		}
		segments[i] = NULL;
		ps_column_add_text(&ids, profiles[i]->customer_id);
		unknown++;
	}
	if (unknown > 0)
		read_segments(&ids, segments);
}

static void
add_or_null(PsColumn *column, const void *value)
{
	if (value == NULL)
		ps_column_add_null(column);
	else
		ps_column_add(column, PointerGetDatum(value));
}

void
ps_profiles_seed_scores(const List *seeded)
{
	static const Oid types[4] = {TEXTOID, TEXTOID, NUMERICOID, NUMERICOID};
	PsColumn	columns[4];
	Datum		args[4];
	ListCell   *cell;

	if (seeded == NIL)
		return;
	for (int c = 0; c < 4; c++)
		ps_column_init(&columns[c], types[c], list_length(seeded));
	foreach(cell, seeded)
	{
		const PsSeeded *one = lfirst(cell);

		ps_column_add_text(&columns[0], one->customer_id);
		add_or_null(&columns[1], one->scores.segment);
		add_or_null(&columns[2], one->scores.churn_risk_score);
		add_or_null(&columns[3], one->scores.lifetime_value);
	}
	for (int c = 0; c < 4; c++)
		args[c] = ps_column_array(&columns[c]);
	ps_plan_write(&seed_plan, args, NULL, SPI_OK_UPDATE, list_length(seeded), TABLE_NAME);
}

/*
 * profile_store.c
 *	  Loading and saving profiles with one SELECT, one UPDATE and one INSERT a
 *	  batch, whatever the batch.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "store/plan.h"
#include "store/profile_store.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"

enum
{
	CUSTOMER_ID, VERSION, UPDATED_AT, WATERMARK, FIRST_NAME, LAST_NAME, EMAIL, PHONE, TOTAL_BALANCE,
	ACCOUNT_COUNT, LAST_TRANSACTION_AT, LAST_LOGIN_AT, PREFERRED_CHANNEL, EVENT_COUNTS, WINDOW_STATE,
	NCOLUMNS
};

#define COLUMN_NAMES \
	"customer_id, version, updated_at, watermark, first_name, last_name, email, phone, total_balance," \
	" account_count, last_transaction_at, last_login_at, preferred_channel, event_counts, window_state"

#define UNNEST_COLUMNS \
	" FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2), pg_catalog.unnest($3), pg_catalog.unnest($4)," \
	" pg_catalog.unnest($5), pg_catalog.unnest($6), pg_catalog.unnest($7), pg_catalog.unnest($8)," \
	" pg_catalog.unnest($9), pg_catalog.unnest($10), pg_catalog.unnest($11), pg_catalog.unnest($12)," \
	" pg_catalog.unnest($13), pg_catalog.unnest($14), pg_catalog.unnest($15)) AS n(" COLUMN_NAMES ")"

#define COLUMN_ARRAY_TYPES \
	{TEXTARRAYOID, INT8ARRAYOID, TIMESTAMPTZARRAYOID, TIMESTAMPTZARRAYOID, TEXTARRAYOID, TEXTARRAYOID, \
		TEXTARRAYOID, TEXTARRAYOID, NUMERICARRAYOID, INT8ARRAYOID, TIMESTAMPTZARRAYOID, \
		TIMESTAMPTZARRAYOID, TEXTARRAYOID, JSONBARRAYOID, BYTEAARRAYOID}

static const Oid column_types[NCOLUMNS] = {
	TEXTOID, INT8OID, TIMESTAMPTZOID, TIMESTAMPTZOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, NUMERICOID,
	INT8OID, TIMESTAMPTZOID, TIMESTAMPTZOID, TEXTOID, JSONBOID, BYTEAOID
};

static PsPlan load_plan = {
	"SELECT k.ordinality::int4, p.version, p.updated_at, p.watermark, p.first_name, p.last_name, p.email,"
	" p.phone, p.total_balance, p.account_count, p.last_transaction_at, p.last_login_at, p.preferred_channel,"
	" p.event_counts, p.window_state"
	" FROM pg_catalog.unnest($1) WITH ORDINALITY AS k(customer_id, ordinality)"
	" JOIN profile_stream.materialized_profiles p ON p.customer_id = k.customer_id",
	1, {TEXTARRAYOID}
};

static PsPlan insert_plan = {
	"INSERT INTO profile_stream.materialized_profiles (" COLUMN_NAMES ")"
	" SELECT " COLUMN_NAMES UNNEST_COLUMNS,
	NCOLUMNS, COLUMN_ARRAY_TYPES
};

static PsPlan update_plan = {
	"UPDATE profile_stream.materialized_profiles p SET version = n.version, updated_at = n.updated_at,"
	" watermark = n.watermark, first_name = n.first_name, last_name = n.last_name, email = n.email,"
	" phone = n.phone, total_balance = n.total_balance, account_count = n.account_count,"
	" last_transaction_at = n.last_transaction_at, last_login_at = n.last_login_at,"
	" preferred_channel = n.preferred_channel, event_counts = n.event_counts, window_state = n.window_state"
	UNNEST_COLUMNS " WHERE p.customer_id = n.customer_id",
	NCOLUMNS, COLUMN_ARRAY_TYPES
};

static PsPlan expired_plan = {
	"SELECT p.customer_id FROM profile_stream.materialized_profiles p"
	" WHERE profile_stream.window_expired(p.window_state, $1) LIMIT $2",
	2, {TIMESTAMPTZOID, INT8OID}
};

/* A row being read. */
typedef struct Row
{
	HeapTuple	tuple;
	TupleDesc	desc;
} Row;

static Datum
row_value(const Row *row, int column, bool *isnull)
{
	return SPI_getbinval(row->tuple, row->desc, column + 1, isnull);
}

static const char *
row_text(const Row *row, int column)
{
	bool		isnull;

	return TextDatumGetCString(row_value(row, column, &isnull));
}

static TimestampTz
row_time(const Row *row, int column)
{
	bool		isnull;
	Datum		value = row_value(row, column, &isnull);

	return isnull ? DT_NOBEGIN : DatumGetTimestampTz(value);
}

/* Reads {"type": count, …} into the profile's counters. */
static void
load_event_counts(PsProfile *profile, Jsonb *counts)
{
	JsonbIterator *it = JsonbIteratorInit(&counts->root);
	JsonbValue	value;
	JsonbIteratorToken token;
	const char *type = NULL;
	int			len = 0;

	while ((token = JsonbIteratorNext(&it, &value, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
		{
			type = value.val.string.val;
			len = value.val.string.len;
		}
		else if (token == WJB_VALUE && value.type == jbvNumeric)
			ps_profile_count_event(profile, type, len,
								   DatumGetInt64(DirectFunctionCall1(numeric_int8,
																	 NumericGetDatum(value.val.numeric))));
	}
}

/* Fills the profile from its row. */
static void
load_row(PsStoredProfile *stored, const Row *row)
{
	PsProfile  *profile = &stored->profile;
	bool		isnull;
	bytea	   *state;

	profile->is_new = false;
	profile->version = DatumGetInt64(row_value(row, VERSION, &isnull));
	profile->updated_at = row_time(row, UPDATED_AT);
	profile->watermark = row_time(row, WATERMARK);
	profile->first_name = row_text(row, FIRST_NAME);
	profile->last_name = row_text(row, LAST_NAME);
	profile->email = row_text(row, EMAIL);
	profile->phone = row_text(row, PHONE);
	profile->total_balance = DatumGetNumericCopy(row_value(row, TOTAL_BALANCE, &isnull));
	profile->account_count = DatumGetInt64(row_value(row, ACCOUNT_COUNT, &isnull));
	profile->last_transaction_at = row_time(row, LAST_TRANSACTION_AT);
	profile->last_login_at = row_time(row, LAST_LOGIN_AT);
	profile->preferred_channel = row_text(row, PREFERRED_CHANNEL);
	load_event_counts(profile, DatumGetJsonbPCopy(row_value(row, EVENT_COUNTS, &isnull)));

	state = DatumGetByteaPCopy(row_value(row, WINDOW_STATE, &isnull));
	if (!ps_window_load(&profile->window, VARDATA(state), VARSIZE(state) - VARHDRSZ))
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("window state of customer \"%s\" is damaged", stored->customer_id)));
}

void
ps_profiles_load(PsStoredProfile **profiles, int n)
{
	PsColumn	ids;
	Datum		args[1];
	uint64		found;

	if (n == 0)
		return;
	ps_column_init(&ids, TEXTOID, n);
	for (int i = 0; i < n; i++)
	{
		ps_profile_init(&profiles[i]->profile);
		ps_column_add_text(&ids, profiles[i]->customer_id);
	}
	args[0] = ps_column_array(&ids);
	found = ps_plan_run(&load_plan, args, NULL, SPI_OK_SELECT);
	for (uint64 i = 0; i < found; i++)
	{
		Row			row = {SPI_tuptable->vals[i], SPI_tuptable->tupdesc};
		bool		isnull;

		load_row(profiles[DatumGetInt32(row_value(&row, 0, &isnull)) - 1], &row);
	}
	SPI_freetuptable(SPI_tuptable);
}

/* The counters as jsonb. */
static Datum
event_counts_jsonb(const PsProfile *profile)
{
	JsonbParseState *state = NULL;

	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	for (int i = 0; i < profile->nevent_counts; i++)
	{
		const PsEventCount *count = &profile->event_counts[i];
		JsonbValue	key;
		JsonbValue	value;

		key.type = jbvString;
		key.val.string.val = unconstify(char *, count->event_type);
		key.val.string.len = count->len;
		value.type = jbvNumeric;
		value.val.numeric = int64_to_numeric(count->count);
		pushJsonbValue(&state, WJB_KEY, &key);
		pushJsonbValue(&state, WJB_VALUE, &value);
	}
	return JsonbPGetDatum(JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL)));
}

/* Adds one profile to the columns. */
static void
add_profile(PsColumn *columns, const PsStoredProfile *stored)
{
	const PsProfile *profile = &stored->profile;

	ps_column_add_text(&columns[CUSTOMER_ID], stored->customer_id);
	ps_column_add(&columns[VERSION], Int64GetDatum(profile->version));
	ps_column_add_time(&columns[UPDATED_AT], profile->updated_at);
	ps_column_add_time(&columns[WATERMARK], profile->watermark);
	ps_column_add_text(&columns[FIRST_NAME], profile->first_name);
	ps_column_add_text(&columns[LAST_NAME], profile->last_name);
	ps_column_add_text(&columns[EMAIL], profile->email);
	ps_column_add_text(&columns[PHONE], profile->phone);
	ps_column_add(&columns[TOTAL_BALANCE], NumericGetDatum(profile->total_balance));
	ps_column_add(&columns[ACCOUNT_COUNT], Int64GetDatum(profile->account_count));
	ps_column_add_time(&columns[LAST_TRANSACTION_AT], profile->last_transaction_at);
	ps_column_add_time(&columns[LAST_LOGIN_AT], profile->last_login_at);
	ps_column_add_text(&columns[PREFERRED_CHANNEL], profile->preferred_channel);
	ps_column_add(&columns[EVENT_COUNTS], event_counts_jsonb(profile));
	ps_column_add(&columns[WINDOW_STATE], PointerGetDatum(ps_window_save(&profile->window)));
}

/* Writes those profiles that are new, or those that are not. */
static void
save_rows(PsStoredProfile **profiles, int n, bool is_new)
{
	PsColumn	columns[NCOLUMNS];
	Datum		args[NCOLUMNS];
	int			nrows;

	for (int c = 0; c < NCOLUMNS; c++)
		ps_column_init(&columns[c], column_types[c], n);
	for (int i = 0; i < n; i++)
		if (profiles[i]->profile.is_new == is_new)
			add_profile(columns, profiles[i]);
	nrows = columns[0].n;
	if (nrows == 0)
		return;
	for (int c = 0; c < NCOLUMNS; c++)
		args[c] = ps_column_array(&columns[c]);
	if (ps_plan_run(is_new ? &insert_plan : &update_plan, args, NULL,
					is_new ? SPI_OK_INSERT : SPI_OK_UPDATE) != nrows)
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("profiles changed without the customer's lock")));
}

void
ps_profiles_save(PsStoredProfile **profiles, int n)
{
	save_rows(profiles, n, false);
	save_rows(profiles, n, true);
}

int
ps_profiles_find_expired(TimestampTz now, int limit, PsStoredProfile **profiles)
{
	Datum		args[2] = {TimestampTzGetDatum(now), Int64GetDatum(limit)};
	uint64		found = ps_plan_run(&expired_plan, args, NULL, SPI_OK_SELECT);

	for (uint64 i = 0; i < found; i++)
	{
		Row			row = {SPI_tuptable->vals[i], SPI_tuptable->tupdesc};

		profiles[i] = palloc0(sizeof(PsStoredProfile));
		profiles[i]->customer_id = row_text(&row, 0);
	}
	SPI_freetuptable(SPI_tuptable);
	return (int) found;
}

/*
 * profile_row.c
 *	  Converts between a profile in memory and its row. profile_store.c loads and
 *	  saves the rows.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "core/attribute.h"
#include "core/jsonb_object.h"
#include "store/profile_row.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"

#define TYPE(column, kind, access, initial, member) PS_SQL_TYPE_##kind(OID),

const Oid	ps_profile_types[PS_ROW_ALL_COLUMNS] = {
	TEXTOID,
	PS_PROFILE_COLUMNS(TYPE,)
	TEXTOID, FLOAT8OID, NUMERICOID, TIMESTAMPTZOID	/* segment, churn_risk_score, lifetime_value, scored_at */
};

/* Reads {"type": count, …} into the profile's counters. */
static void
read_event_counts(PsProfile *profile, Jsonb *counts)
{
	JsonbIterator *it = JsonbIteratorInit(&counts->root);
	JsonbValue	value;
	JsonbIteratorToken token;
	const char *type = NULL;
	int			len = 0;

	profile->event_counts = NULL;
	profile->nevent_counts = profile->event_counts_capacity = profile->event_type_bytes = 0;
	profile->stored_counts = (struct varlena *) counts;
	while ((token = JsonbIteratorNext(&it, &value, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
		{
			type = value.val.string.val;
			len = value.val.string.len;
		}
		else if (token == WJB_VALUE && value.type == jbvNumeric)
			ps_profile_add_count(profile, type, len)->stored = value.val.numeric;
		else if (token == WJB_VALUE || token == WJB_ELEM)
			profile->stored_counts = NULL;
	}
}

static void
read_event_ids(PsProfile *profile, const Datum *values)
{
	if (!ps_event_ids_load(&profile->event_ids, PG_DETOAST_DATUM_PACKED(values[PS_ROW_event_ids])))
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("event ids of customer \"%s\" are damaged",
						TextDatumGetCString(values[PS_ROW_customer_id]))));
}

static void
read_window_state(PsProfile *profile, const Datum *values)
{
	bytea	   *state = DatumGetByteaPP(values[PS_ROW_window_state]);

	if (!ps_window_load(&profile->window, VARDATA_ANY(state), VARSIZE_ANY_EXHDR(state)))
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("window state of customer \"%s\" is damaged",
						TextDatumGetCString(values[PS_ROW_customer_id]))));
}

/* attribute_times follows attributes in the row */
static void
read_attributes(PsProfile *profile, const Datum *values)
{
	memset(&profile->attributes, 0, sizeof(PsAttributes));
	profile->attributes.stored = PG_DETOAST_DATUM(values[PS_ROW_attributes]);
}

static void
read_attribute_times(PsProfile *profile, const Datum *values, const bool *nulls)
{
	if (!nulls[PS_ROW_attribute_times])
		profile->attributes.stored_times = PG_DETOAST_DATUM(values[PS_ROW_attribute_times]);
}

#define READ_TEXT(column) profile->column = DatumGetTextPP(values[PS_ROW_##column]);
#define READ_NUMERIC(column) profile->column = DatumGetNumeric(values[PS_ROW_##column]);
#define READ_INT8(column) profile->column = DatumGetInt64(values[PS_ROW_##column]);
#define READ_TIME(column) profile->column = DatumGetTimestampTz(values[PS_ROW_##column]);
#define READ_NULLABLE_TIME(column) profile->column = nulls[PS_ROW_##column] ? DT_NOBEGIN : DatumGetTimestampTz(values[PS_ROW_##column]);
#define READ_EVENT_COUNTS(column) read_event_counts(profile, DatumGetJsonbP(values[PS_ROW_##column]));
#define READ_EVENT_IDS(column) read_event_ids(profile, values);
#define READ_WINDOW_STATE(column) read_window_state(profile, values);
#define READ_ATTRIBUTES(column) read_attributes(profile, values);
#define READ_ATTRIBUTE_TIMES(column) read_attribute_times(profile, values, nulls);
#define READ_SEGMENT_STATE(column) profile->column = nulls[PS_ROW_##column] ? NULL : DatumGetByteaPP(values[PS_ROW_##column]);
#define READ(column, kind, access, initial, member) READ_##kind(column)

void
ps_profile_row_read(PsProfile *profile, const Datum *values, const bool *nulls)
{
	profile->is_new = false;
	PS_PROFILE_COLUMNS(READ,)
}

/*
 * Writes the counters into the jsonb that was read, which is faster than making
 * a new one. False when that cannot be: a counter is new, or needs more digits.
 */
static bool
overwrite_event_counts(PsProfile *profile)
{
	if (profile->stored_counts == NULL)
		return false;
	for (int i = 0; i < profile->nevent_counts; i++)
	{
		PsEventCount *count = &profile->event_counts[i];
		Numeric		numeric;

		if (count->stored == NULL)
			return false;
		if (count->added == 0)
			continue;
		numeric = int64_to_numeric(ps_profile_count(count));
		if (VARSIZE(numeric) != VARSIZE(count->stored))
			return false;
		memcpy(count->stored, numeric, VARSIZE(numeric));
		count->added = 0;
	}
	return true;
}

/* Makes jsonb of the counters. */
static Datum
event_counts_jsonb(const PsProfile *profile)
{
	PsJsonbObject object;

	ps_jsonb_object_begin(&object, profile->nevent_counts);
	for (int i = 0; i < profile->nevent_counts; i++)
		ps_jsonb_object_key(&object, profile->event_counts[i].event_type, profile->event_counts[i].len);
	for (int i = 0; i < profile->nevent_counts; i++)
	{
		const PsEventCount *count = &profile->event_counts[i];
		JsonbValue	value = {.type = jbvNumeric};

		value.val.numeric = count->stored != NULL && count->added == 0 ? count->stored : int64_to_numeric(ps_profile_count(count));
		ps_jsonb_object_add(&object, &value);
	}
	return JsonbPGetDatum(ps_jsonb_object_end(&object));
}

Datum
ps_profile_row_event_counts(PsProfile *profile)
{
	return overwrite_event_counts(profile) ? PointerGetDatum(profile->stored_counts) : event_counts_jsonb(profile);
}

#define WRITE_TEXT(column) values[PS_ROW_##column] = PointerGetDatum(profile->column);
#define WRITE_NUMERIC(column) values[PS_ROW_##column] = NumericGetDatum(profile->column);
#define WRITE_INT8(column) values[PS_ROW_##column] = Int64GetDatum(profile->column);
#define WRITE_TIME(column) values[PS_ROW_##column] = TimestampTzGetDatum(profile->column);
#define WRITE_NULLABLE_TIME(column) WRITE_TIME(column) nulls[PS_ROW_##column] = TIMESTAMP_IS_NOBEGIN(profile->column);
#define WRITE_EVENT_COUNTS(column) values[PS_ROW_##column] = ps_profile_row_event_counts(profile);
#define WRITE_EVENT_IDS(column) values[PS_ROW_##column] = PointerGetDatum(ps_event_ids_save(&profile->event_ids));
#define WRITE_WINDOW_STATE(column) values[PS_ROW_##column] = PointerGetDatum(ps_window_save(&profile->window));
#define WRITE_ATTRIBUTES(column) values[PS_ROW_##column] = PointerGetDatum(ps_attributes_jsonb(profile));
#define WRITE_ATTRIBUTE_TIMES(column) \
	values[PS_ROW_##column] = PointerGetDatum(ps_attribute_times_jsonb(profile)); \
	nulls[PS_ROW_##column] = DatumGetPointer(values[PS_ROW_##column]) == NULL;
#define WRITE_SEGMENT_STATE(column) values[PS_ROW_##column] = PointerGetDatum(profile->column); nulls[PS_ROW_##column] = profile->column == NULL;
#define WRITE(column, kind, access, initial, member) WRITE_##kind(column)

void
ps_profile_row_write(PsProfile *profile, Datum *values, bool *nulls)
{
	memset(nulls, false, PS_ROW_COLUMNS * sizeof(bool));
	PS_PROFILE_COLUMNS(WRITE,)
}

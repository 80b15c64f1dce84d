/*
 * profile_row.c
 *	  Between a profile in memory and its row; profile_store.c moves the rows.
 */
#include "postgres.h"

#include "core/attribute.h"
#include "store/profile_row.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"

static TimestampTz
profile_row_read_time(Datum value, bool isnull)
{
	return isnull ? DT_NOBEGIN : DatumGetTimestampTz(value);
}

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
		{
			Numeric		stored = value.val.numeric;
			int64		count = DatumGetInt64(DirectFunctionCall1(numeric_int8, NumericGetDatum(stored)));
			PsEventCount *entry = ps_profile_add_count(profile, type, len, count);

			entry->stored = stored;
			entry->stored_count = count;
		}
		else if (token == WJB_VALUE || token == WJB_ELEM)
			profile->stored_counts = NULL;
	}
}

void
ps_profile_row_read(PsProfile *profile, const Datum *values, const bool *nulls)
{
	bytea	   *state = DatumGetByteaPP(values[PS_ROW_WINDOW_STATE]);

	profile->is_new = false;
	profile->version = DatumGetInt64(values[PS_ROW_VERSION]);
	profile->updated_at = DatumGetTimestampTz(values[PS_ROW_UPDATED_AT]);
	profile->watermark = DatumGetTimestampTz(values[PS_ROW_WATERMARK]);
	profile->first_name = DatumGetTextPP(values[PS_ROW_FIRST_NAME]);
	profile->last_name = DatumGetTextPP(values[PS_ROW_LAST_NAME]);
	profile->email = DatumGetTextPP(values[PS_ROW_EMAIL]);
	profile->phone = DatumGetTextPP(values[PS_ROW_PHONE]);
	profile->total_balance = DatumGetNumeric(values[PS_ROW_TOTAL_BALANCE]);
	profile->account_count = DatumGetInt64(values[PS_ROW_ACCOUNT_COUNT]);
	profile->last_transaction_at = profile_row_read_time(values[PS_ROW_LAST_TRANSACTION_AT], nulls[PS_ROW_LAST_TRANSACTION_AT]);
	profile->last_login_at = profile_row_read_time(values[PS_ROW_LAST_LOGIN_AT], nulls[PS_ROW_LAST_LOGIN_AT]);
	profile->preferred_channel = DatumGetTextPP(values[PS_ROW_PREFERRED_CHANNEL]);
	profile->first_event_at = DatumGetTimestampTz(values[PS_ROW_FIRST_EVENT_AT]);
	memset(&profile->attributes, 0, sizeof(PsAttributes));
	profile->attributes.stored = PG_DETOAST_DATUM(values[PS_ROW_ATTRIBUTES]);
	if (!nulls[PS_ROW_ATTRIBUTE_TIMES])
		profile->attributes.stored_times = PG_DETOAST_DATUM(values[PS_ROW_ATTRIBUTE_TIMES]);
	read_event_counts(profile, DatumGetJsonbP(values[PS_ROW_EVENT_COUNTS]));
	if (!ps_window_load(&profile->window, VARDATA_ANY(state), VARSIZE_ANY_EXHDR(state)))
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("window state of customer \"%s\" is damaged",
						TextDatumGetCString(values[PS_ROW_CUSTOMER_ID]))));
}

/*
 * Writes the counters over those that were read, which is all there is to do
 * as long as there is no new one and none needs more digits; false when not so.
 */
static bool
overwrite_event_counts(PsProfile *profile)
{
	if (profile->stored_counts == NULL)
		return false;
	for (int i = 0; i < profile->nevent_counts; i++)
	{
		const PsEventCount *count = &profile->event_counts[i];
		Numeric		numeric;

		if (count->stored == NULL)
			return false;
		if (count->count == count->stored_count)
			continue;
		numeric = int64_to_numeric(count->count);
		if (VARSIZE(numeric) != VARSIZE(count->stored))
			return false;
		memcpy(count->stored, numeric, VARSIZE(numeric));
	}
	return true;
}

/* Makes jsonb of the counters. */
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

/* Writes a timestamp; DT_NOBEGIN becomes null. */
static void
write_time(TimestampTz at, int column, Datum *values, bool *nulls)
{
	values[column] = TimestampTzGetDatum(at);
	nulls[column] = TIMESTAMP_IS_NOBEGIN(at);
}

void
ps_profile_row_write(PsProfile *profile, Datum *values, bool *nulls)
{
	memset(nulls, false, PS_ROW_COLUMNS * sizeof(bool));
	values[PS_ROW_VERSION] = Int64GetDatum(profile->version);
	values[PS_ROW_UPDATED_AT] = TimestampTzGetDatum(profile->updated_at);
	values[PS_ROW_WATERMARK] = TimestampTzGetDatum(profile->watermark);
	values[PS_ROW_FIRST_NAME] = PointerGetDatum(profile->first_name);
	values[PS_ROW_LAST_NAME] = PointerGetDatum(profile->last_name);
	values[PS_ROW_EMAIL] = PointerGetDatum(profile->email);
	values[PS_ROW_PHONE] = PointerGetDatum(profile->phone);
	values[PS_ROW_TOTAL_BALANCE] = NumericGetDatum(profile->total_balance);
	values[PS_ROW_ACCOUNT_COUNT] = Int64GetDatum(profile->account_count);
	write_time(profile->last_transaction_at, PS_ROW_LAST_TRANSACTION_AT, values, nulls);
	write_time(profile->last_login_at, PS_ROW_LAST_LOGIN_AT, values, nulls);
	values[PS_ROW_PREFERRED_CHANNEL] = PointerGetDatum(profile->preferred_channel);
	values[PS_ROW_EVENT_COUNTS] = overwrite_event_counts(profile) ?
		PointerGetDatum(profile->stored_counts) : event_counts_jsonb(profile);
	values[PS_ROW_WINDOW_STATE] = PointerGetDatum(ps_window_save(&profile->window));
	values[PS_ROW_ATTRIBUTES] = PointerGetDatum(ps_attributes_jsonb(profile));
	values[PS_ROW_ATTRIBUTE_TIMES] = PointerGetDatum(ps_attribute_times_jsonb(profile));
	nulls[PS_ROW_ATTRIBUTE_TIMES] = DatumGetPointer(values[PS_ROW_ATTRIBUTE_TIMES]) == NULL;
	values[PS_ROW_FIRST_EVENT_AT] = TimestampTzGetDatum(profile->first_event_at);
}

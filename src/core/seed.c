/*
 * seed.c
 *	  Reads and applies the event profile.seeded.
 *
 *	  A member that the document has not leaves the profile as it is. Null is the value
 *	  of a profile without events. Numbers of windows become samples, because a window
 *	  is nothing but its samples: they are spread evenly over the window, and a series
 *	  that has samples already keeps those alone.
 */
#include "postgres.h"

#include "common/jsonapi.h"
#include "compat.h"
#include "core/attribute.h"
#include "core/json.h"
#include "core/numeric_call.h"
#include "core/seed.h"
#include "core/value.h"
#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

#define MAX_SAMPLES 10000		/* of a series: a small message must not write much */
#define MAX_DIGITS 18			/* of a whole number */
#define MAX_SHOWN_NAME 64

/* The value of a column; which field counts depends on its kind. */
typedef struct SeedValue
{
	bool		is_given;
	const text *text;
	Numeric		number;
	int64		whole;
	TimestampTz at;
} SeedValue;

typedef struct SeedAttribute
{
	const char *name;
	int			len;
	JsonbValue	value;
} SeedAttribute;

typedef struct SeedCount
{
	const char *event_type;
	int			len;
	int64		count;
} SeedCount;

typedef struct Seed
{
	const char *customer_id;
	PsProfile	initial;		/* what null stands for */
	SeedValue	values[PS_PROFILE_NCOLUMNS];
	SeedAttribute *attributes;
	int			nattributes;
	SeedCount  *counts;
	int			ncounts;
	int64		transactions;
	Numeric		transaction_value;	/* NULL: not given */
	int64		logins;
	PsSeededScores scores;
} Seed;

static PsReject *
seed_refuse(const char *name, const char *why)
{
	return ps_reject_make("handler", psprintf("Processing error: %s %s", name, why));
}

static bool
is_null(const PsField *field)
{
	return field->type == PS_JSON_NULL;
}

/* Reads a text; an empty one is a text too. *result stays when the member is null. */
static PsReject *
seed_read_text(const PsField *field, const char *name, const text **result)
{
	JsonbValue	value;
	PsReject   *reject;

	if (is_null(field))
		return NULL;
	reject = ps_value_read(field, PS_VALUE_TEXT, name, &value);
	if (reject == NULL)
		reject = ps_value_check_kept(&value, name);
	if (reject == NULL)
		*result = value.type == jbvString ? cstring_to_text_with_len(value.val.string.val, value.val.string.len) : cstring_to_text("");
	return reject;
}

/* Reads a number; *result stays when the member is null. An empty text is none. */
static PsReject *
seed_read_number(const PsField *field, const char *name, Numeric *result)
{
	Numeric		number;
	PsReject   *reject;

	if (is_null(field))
		return NULL;
	reject = ps_value_read_number(field, name, &number);
	if (reject == NULL && number == NULL)
		return seed_refuse(name, "is not a number");
	if (reject == NULL)
		*result = number;
	return reject;
}

/* Reads a whole number from 0 on; *result stays when the member is null. */
static PsReject *
seed_read_whole(const PsField *field, const char *name, int64 *result)
{
	if (is_null(field))
		return NULL;
	if ((field->type != PS_JSON_NUMBER && field->type != PS_JSON_STRING) || !IsValidJsonNumber(field->text, field->len) ||
		!ps_json_whole_number(field->text, MAX_DIGITS, result))
		return seed_refuse(name, psprintf("is not a whole number from 0 on of at most %d digits", MAX_DIGITS));
	return NULL;
}

/* Reads a time; *result stays when the member is null. */
static PsReject *
seed_read_time(const PsField *field, const char *name, TimestampTz *result)
{
	bool		valid = false;

	if (is_null(field))
		return NULL;
	if (field->type == PS_JSON_NUMBER || (field->type == PS_JSON_STRING && ps_timestamp_is_count(field->text, field->len)))
		valid = ps_timestamp_from_epoch(field->text, PS_MILLISECONDS, result) && *result >= PS_FIRST_COUNTED_TIME;
	else if (field->type == PS_JSON_STRING)
		valid = ps_timestamp_from_iso(field->text, field->len, result);
	return valid ? NULL : seed_refuse(name, "is not a timestamp");
}

/* Reads the members of an object; none when it is null. */
static PsReject *
seed_read_object(const PsField *field, const char *name, PsJsonReader *reader)
{
	memset(reader, 0, sizeof(PsJsonReader));
	reader->expanded = PS_JSON_ROOT;
	if (is_null(field))
		return NULL;
	if (field->type != PS_JSON_OBJECT || ps_json_read(field->text, field->len, reader) != NULL)
		return seed_refuse(name, "is not an object");
	return NULL;
}

static PsReject *
seed_read_attributes(const PsField *field, Seed *seed)
{
	PsJsonReader reader;
	PsReject   *reject = seed_read_object(field, "attributes", &reader);

	if (reject == NULL && reader.nfields > PS_MAX_ATTRIBUTES)
		reject = seed_refuse("attributes", psprintf("has more than %d members", PS_MAX_ATTRIBUTES));
	if (reject != NULL)
		return reject;
	seed->attributes = palloc(Max(reader.nfields, 1) * sizeof(SeedAttribute));
	for (int i = 0; i < reader.nfields && reject == NULL; i++)
	{
		SeedAttribute *attribute = &seed->attributes[seed->nattributes++];

		attribute->name = reader.fields[i].name;
		attribute->len = strlen(reader.fields[i].name);
		if (attribute->len > PS_MAX_ID_BYTES)
			return seed_refuse("attributes", psprintf("has a name longer than %d bytes", PS_MAX_ID_BYTES));
		reject = ps_value_read(&reader.fields[i], PS_VALUE_JSONB, attribute->name, &attribute->value);
	}
	return reject;
}

static PsReject *
read_counts(const PsField *field, Seed *seed)
{
	PsJsonReader reader;
	PsReject   *reject = seed_read_object(field, "eventCounts", &reader);
	int			bytes = 0;

	if (reject != NULL)
		return reject;
	seed->counts = palloc(Max(reader.nfields, 1) * sizeof(SeedCount));
	for (int i = 0; i < reader.nfields && reject == NULL; i++)
	{
		SeedCount  *count = &seed->counts[seed->ncounts++];

		count->event_type = reader.fields[i].name;
		count->len = strlen(count->event_type);
		count->count = 0;
		bytes += count->len;
		reject = seed_read_whole(&reader.fields[i], "eventCounts", &count->count);
	}
	if (reject == NULL && (seed->ncounts > PS_MAX_EVENT_TYPES || bytes > PS_MAX_EVENT_TYPE_BYTES))
		reject = seed_refuse("eventCounts", psprintf("has more than %d event types, or more than %d bytes of their names", PS_MAX_EVENT_TYPES, PS_MAX_EVENT_TYPE_BYTES));
	return reject;
}

/* Reads a member that is a column of the profile. Version and time are checked only: those of the profile are its events'. */
static PsReject *
read_column(const PsField *field, const PsProfileColumn *column, Seed *seed)
{
	SeedValue  *value = &seed->values[column - ps_profile_columns];
	const char *initial = (const char *) &seed->initial + column->offset;

	value->is_given = column->is_settable;
	switch (column->kind)
	{
		case PS_PROFILE_TEXT:
			value->text = *(const text *const *) initial;
			return seed_read_text(field, column->member, &value->text);
		case PS_PROFILE_NUMERIC:
			value->number = *(const Numeric *) initial;
			return seed_read_number(field, column->member, &value->number);
		case PS_PROFILE_INT8:
			value->whole = *(const int64 *) initial;
			return seed_read_whole(field, column->member, &value->whole);
		case PS_PROFILE_TIME:
		case PS_PROFILE_NULLABLE_TIME:
			value->at = DT_NOBEGIN;
			return seed_read_time(field, column->member, &value->at);
		case PS_PROFILE_ATTRIBUTES:
			return seed_read_attributes(field, seed);
		case PS_PROFILE_EVENT_COUNTS:
			return read_counts(field, seed);
		case PS_PROFILE_EVENT_IDS:
		case PS_PROFILE_WINDOW_STATE:
		case PS_PROFILE_ATTRIBUTE_TIMES:
		case PS_PROFILE_SEGMENT_STATE:
			break;				/* no members of the document */
	}
	return NULL;
}

static PsReject *
read_customer_id(const PsField *field, Seed *seed)
{
	if ((field->type != PS_JSON_STRING && field->type != PS_JSON_NUMBER) || strcmp(field->text, seed->customer_id) != 0)
		return seed_refuse("customerId", "of the document is not that of the event");
	return NULL;
}

static PsReject *
read_segment(const PsField *field, Seed *seed)
{
	PsReject   *reject = seed_read_text(field, "segment", &seed->scores.segment);
	const text *segment = seed->scores.segment;

	if (reject == NULL && segment != NULL && (VARSIZE_ANY_EXHDR(segment) == 0 || VARSIZE_ANY_EXHDR(segment) > PS_MAX_SEEDED_SEGMENT))
		reject = seed_refuse("segment", psprintf("has not 1 to %d bytes", PS_MAX_SEEDED_SEGMENT));
	return reject;
}

static PsReject *
read_churn(const PsField *field, Seed *seed)
{
	PsReject   *reject = seed_read_number(field, "churnRiskScore", &seed->scores.churn_risk_score);
	Numeric		risk = seed->scores.churn_risk_score;

	if (reject == NULL && risk != NULL &&
		(ps_numeric_compare(risk, int64_to_numeric(0)) < 0 || ps_numeric_compare(risk, int64_to_numeric(1)) > 0))
		reject = seed_refuse("churnRiskScore", "is not between 0 and 1");
	return reject;
}

static PsReject *
read_lifetime_value(const PsField *field, Seed *seed)
{
	return seed_read_number(field, "lifetimeValue", &seed->scores.lifetime_value);
}

static PsReject *
read_samples(const PsField *field, const char *name, int64 *samples)
{
	PsReject   *reject = seed_read_whole(field, name, samples);

	if (reject == NULL && *samples > MAX_SAMPLES)
		reject = seed_refuse(name, psprintf("is more than %d", MAX_SAMPLES));
	return reject;
}

static PsReject *
read_transactions(const PsField *field, Seed *seed)
{
	return read_samples(field, "transactionCount30d", &seed->transactions);
}

static PsReject *
read_transaction_value(const PsField *field, Seed *seed)
{
	return seed_read_number(field, "totalTransactionValue30d", &seed->transaction_value);
}

static PsReject *
read_logins(const PsField *field, Seed *seed)
{
	return read_samples(field, "loginCount7d", &seed->logins);
}

/* A document of get_profile() has it, empty where no metrics are created. */
static PsReject *
read_metrics(const PsField *field, Seed *seed)
{
	PsJsonReader reader;
	PsReject   *reject = seed_read_object(field, "metrics", &reader);

	if (reject == NULL && reader.nfields > 0)
		reject = seed_refuse("metrics", "cannot be seeded: they are made of events");
	return reject;
}

/* Members of a document that are no columns which events change. */
static const struct
{
	const char *name;
	PsReject   *(*read) (const PsField *field, Seed *seed);
}			others[] = {
	{"customerId", read_customer_id},
	{"segment", read_segment},
	{"churnRiskScore", read_churn},
	{"lifetimeValue", read_lifetime_value},
	{"transactionCount30d", read_transactions},
	{"totalTransactionValue30d", read_transaction_value},
	{"loginCount7d", read_logins},
	{"metrics", read_metrics}
};

static PsReject *
read_member(const PsField *field, Seed *seed)
{
	const PsProfileColumn *column = ps_profile_find_member(field->name, strlen(field->name));
	int			shown;

	if (column != NULL)
		return read_column(field, column, seed);
	for (int i = 0; i < lengthof(others); i++)
		if (strcmp(others[i].name, field->name) == 0)
			return others[i].read(field, seed);
	shown = pg_encoding_mbcliplen(PG_UTF8, field->name, strlen(field->name), MAX_SHOWN_NAME);
	return ps_reject_make("handler", psprintf("Processing error: unknown member %s; put what profiles have no member for into attributes",
											  pnstrdup(field->name, shown)));
}

PsReject *
ps_seed_read(const PsEvent *event, const void **content)
{
	Seed	   *seed = palloc0(sizeof(Seed));
	PsReject   *reject = NULL;

	seed->customer_id = event->customer_id;
	ps_profile_init(&seed->initial);
	for (int i = 0; i < event->nfields && reject == NULL; i++)
		reject = read_member(&event->fields[i], seed);
	if (reject == NULL && seed->transaction_value != NULL && seed->transactions == 0 &&
		ps_numeric_compare(seed->transaction_value, int64_to_numeric(0)) != 0)
		reject = seed_refuse("totalTransactionValue30d", "needs transactionCount30d");
	*content = seed;
	return reject;
}

/* Sets a column, but a time never goes back. */
static void
seed_set_column(PsProfile *profile, const PsProfileColumn *column, const SeedValue *value)
{
	char	   *field = (char *) profile + column->offset;

	switch (column->kind)
	{
		case PS_PROFILE_TEXT:
			*(const text **) field = value->text;
			break;
		case PS_PROFILE_NUMERIC:
			*(Numeric *) field = value->number;
			break;
		case PS_PROFILE_INT8:
			*(int64 *) field = value->whole;
			break;
		case PS_PROFILE_NULLABLE_TIME:
			*(TimestampTz *) field = Max(*(TimestampTz *) field, value->at);
			break;
		default:
			break;				/* attributes and counts are set apart; no other kind is settable */
	}
}

/* The part of a value that each of n samples has, with its digits behind the point; the last sample has the rest. */
static Numeric
share_of(Numeric total, int64 n)
{
	int32		scale = DatumGetInt32(DirectFunctionCall1(numeric_scale, NumericGetDatum(total)));
	Datum		number = NumericGetDatum(int64_to_numeric(n));
	Datum		unit = DirectFunctionCall3(numeric_in, CStringGetDatum(psprintf("1e-%d", scale)), ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1));
	Datum		rest = DirectFunctionCall2(numeric_mod, NumericGetDatum(total), DirectFunctionCall2(numeric_mul, unit, number));

	/* without the rest the division is exact: only zeros are cut */
	return DatumGetNumeric(DirectFunctionCall2(numeric_trunc, DirectFunctionCall2(numeric_div, DirectFunctionCall2(numeric_sub, NumericGetDatum(total), rest), number),
											   Int32GetDatum(scale)));
}

static Numeric
rest_of(Numeric total, Numeric share, int64 n)
{
	Numeric		others_have = ps_numeric_call(numeric_mul, share, int64_to_numeric(n - 1));

	return ps_numeric_call(numeric_sub, total, others_have);
}

/*
 * Gives a series its first samples: n, spread over the window of a metric that ends at
 * the time of the event, with the total value; NULL: 1 each. Puts the chunks that it
 * sealed before those given.
 */
static PsChunk *
seed_add_samples(PsProfile *profile, const char *metric_name, int64 n, Numeric total, TimestampTz until, PsChunk *sealed)
{
	const PsMetric *metric = ps_metric_find(NULL, metric_name);
	Numeric		share = NULL;

	if (n == 0 || ps_window_find(&profile->window, metric->series) != NULL)
		return sealed;
	if (total != NULL)
		share = share_of(total, n);
	for (int64 i = 1; i <= n; i++)
	{
		TimestampTz at = until - metric->window_us / n * (n - i);
		PsChunk    *chunk = ps_window_add(&profile->window, metric->series, at, i == n && total != NULL ? rest_of(total, share, n) : share);

		if (chunk == NULL)
			continue;
		chunk->next = sealed;
		sealed = chunk;
	}
	return sealed;
}

PsChunk *
ps_seed_apply(PsProfile *profile, const PsEvent *event, const void *content)
{
	const Seed *seed = content;
	Numeric		value = seed->transaction_value != NULL ? seed->transaction_value : int64_to_numeric(0);
	PsChunk    *sealed;

	for (int i = 0; i < PS_PROFILE_NCOLUMNS; i++)
		if (seed->values[i].is_given)
			seed_set_column(profile, &ps_profile_columns[i], &seed->values[i]);
	for (int i = 0; i < seed->nattributes; i++)
		ps_attribute_set(profile, seed->attributes[i].name, seed->attributes[i].len, &seed->attributes[i].value);
	for (int i = 0; i < seed->ncounts; i++)
		ps_profile_set_count(profile, seed->counts[i].event_type, seed->counts[i].len, seed->counts[i].count);
	if (seed->scores.segment != NULL || seed->scores.churn_risk_score != NULL || seed->scores.lifetime_value != NULL)
		profile->seeded = &seed->scores;
	sealed = seed_add_samples(profile, "transaction_count_30d", seed->transactions, value, event->timestamp, NULL);
	return seed_add_samples(profile, "login_count_7d", seed->logins, NULL, event->timestamp, sealed);
}

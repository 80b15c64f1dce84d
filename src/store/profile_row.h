/*
 * profile_row.h
 *	  A profile as the columns of materialized_profiles that events change.
 */
#ifndef PS_PROFILE_ROW_H
#define PS_PROFILE_ROW_H

#include "core/profile.h"

#define PS_ROW_COLUMN(column, kind, access, initial, member) PS_ROW_##column,

/* Positions in the table, behind which stand the columns that are computed in batch. */
enum PsRowColumn
{
	PS_ROW_customer_id,
	PS_PROFILE_COLUMNS(PS_ROW_COLUMN,)
	PS_ROW_COLUMNS,
	PS_ROW_segment = PS_ROW_COLUMNS,
	PS_ROW_churn_risk_score,
	PS_ROW_lifetime_value,
	PS_ROW_scored_at,
	PS_ROW_ALL_COLUMNS
};

/* The SQL type of each kind of column, with OID, or its array type, with ARRAYOID. */
#define PS_SQL_TYPE_TEXT(suffix) TEXT##suffix
#define PS_SQL_TYPE_NUMERIC(suffix) NUMERIC##suffix
#define PS_SQL_TYPE_INT8(suffix) INT8##suffix
#define PS_SQL_TYPE_TIME(suffix) TIMESTAMPTZ##suffix
#define PS_SQL_TYPE_NULLABLE_TIME(suffix) TIMESTAMPTZ##suffix
#define PS_SQL_TYPE_EVENT_COUNTS(suffix) JSONB##suffix
#define PS_SQL_TYPE_EVENT_IDS(suffix) BYTEA##suffix
#define PS_SQL_TYPE_WINDOW_STATE(suffix) BYTEA##suffix
#define PS_SQL_TYPE_ATTRIBUTES(suffix) JSONB##suffix
#define PS_SQL_TYPE_ATTRIBUTE_TIMES(suffix) JSONB##suffix
#define PS_SQL_TYPE_SEGMENT_STATE(suffix) BYTEA##suffix

/* Types of all columns of the row of a profile. */
extern const Oid ps_profile_types[PS_ROW_ALL_COLUMNS];

/* Reads a profile from a row, whose values must live as long as the profile points to them. */
extern void ps_profile_row_read(PsProfile *profile, const Datum *values, const bool *nulls);

/* Fills values and nulls, PS_ROW_COLUMNS of each, but for the customer id, which the caller sets. */
extern void ps_profile_row_write(PsProfile *profile, Datum *values, bool *nulls);

/* The column event_counts, with what the profile has counted in memory. */
extern Datum ps_profile_row_event_counts(PsProfile *profile);

#endif							/* PS_PROFILE_ROW_H */

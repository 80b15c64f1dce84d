/*
 * profile_row.h
 *	  A profile as the columns of materialized_profiles that events change.
 */
#ifndef PS_PROFILE_ROW_H
#define PS_PROFILE_ROW_H

#include "core/profile.h"

/* In the order of the table; the columns behind them are computed in batch. */
enum PsProfileColumn
{
	PS_ROW_CUSTOMER_ID, PS_ROW_VERSION, PS_ROW_UPDATED_AT, PS_ROW_WATERMARK, PS_ROW_FIRST_NAME, PS_ROW_LAST_NAME, PS_ROW_EMAIL, PS_ROW_PHONE,
	PS_ROW_TOTAL_BALANCE, PS_ROW_ACCOUNT_COUNT, PS_ROW_LAST_TRANSACTION_AT, PS_ROW_LAST_LOGIN_AT, PS_ROW_PREFERRED_CHANNEL,
	PS_ROW_EVENT_COUNTS, PS_ROW_WINDOW_STATE, PS_ROW_ATTRIBUTES, PS_ROW_ATTRIBUTE_TIMES, PS_ROW_FIRST_EVENT_AT,
	PS_ROW_COLUMNS,
	PS_ROW_SEGMENT = PS_ROW_COLUMNS
};

/* Reads a profile from values that live as long as it. */
extern void ps_profile_row_read(PsProfile *profile, const Datum *values, const bool *nulls);

/* Fills values and nulls, PS_ROW_COLUMNS of each; the customer id is the caller's. */
extern void ps_profile_row_write(PsProfile *profile, Datum *values, bool *nulls);

#endif							/* PS_PROFILE_ROW_H */

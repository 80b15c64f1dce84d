/*
 * profile_document.h
 *	  The document of a profile as of a moment.
 */
#ifndef PS_PROFILE_DOCUMENT_H
#define PS_PROFILE_DOCUMENT_H

#include "postgres.h"

#include "datatype/timestamp.h"

typedef struct PsAsOf
{
	bool		is_named;		/* the caller named the moment; otherwise it is now */
	TimestampTz at;
} PsAsOf;

/* The document of a row of materialized_profiles. */
extern Datum ps_document_of_row(const Datum *values, const bool *nulls, const PsAsOf *as_of);

#endif							/* PS_PROFILE_DOCUMENT_H */

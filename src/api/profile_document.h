/*
 * profile_document.h
 *	  The document of a profile as of a moment.
 */
#ifndef PS_PROFILE_DOCUMENT_H
#define PS_PROFILE_DOCUMENT_H

#include "postgres.h"

#include "api/as_of.h"

/* The document of a row of materialized_profiles; old: what has changed since the moment, NULL: nothing. */
extern Datum ps_document_of_row(const Datum *values, const bool *nulls, const PsAsOf *as_of, const Jsonb *old);

/* The value of a tracked name at the moment, whose history reaches so far back. */
extern JsonbValue ps_document_value_at(const Datum *values, const bool *nulls, const Jsonb *old, const PsTrackedName *name);

/* Whether events, or a refresh of scores, have changed a row since the moment. */
extern bool ps_row_has_later_events(const Datum *values, const bool *nulls, const PsAsOf *as_of);
extern bool ps_row_has_later_scores(const Datum *values, const bool *nulls, const PsAsOf *as_of);

#endif							/* PS_PROFILE_DOCUMENT_H */

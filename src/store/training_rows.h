/*
 * training_rows.h
 *	  Rows of profiles for pairs of a customer and a moment, read with the caller's rights.
 */
#ifndef PS_TRAINING_ROWS_H
#define PS_TRAINING_ROWS_H

#include "postgres.h"

#include "utils/jsonb.h"

/* Reads the rows of pairs, in their order, with the history if it is needed; a pair of an unknown customer has one too. Needs SPI. */
extern void ps_training_rows_select(Datum customer_ids, Datum moments, bool with_history);

/* A row of materialized_profiles, and what has changed of it since the moment; false: the customer is unknown. */
extern bool ps_training_rows_get(uint64 row, Datum **values, bool **nulls, const Jsonb **old);

#endif							/* PS_TRAINING_ROWS_H */

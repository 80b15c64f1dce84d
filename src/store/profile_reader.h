/*
 * profile_reader.h
 *	  Profiles for functions that read them with the caller's rights.
 */
#ifndef PS_PROFILE_READER_H
#define PS_PROFILE_READER_H

#include "postgres.h"

#include "store/direct_reader.h"
#include "store/profile_row.h"

/* Opens the profiles; false when they must be read by a statement, as ps_direct_reader_open(). */
extern bool ps_profile_reader_open(PsDirectReader *reader);

/* The row of a customer, whose values are valid until the next call; NULL: there is none. */
extern TupleTableSlot *ps_profile_reader_find(PsDirectReader *reader, const text *customer_id);

/*
 * Reads the rows of customers by a statement instead, in the order of their ids.
 * Returns how many; row is a number from 0. Values live as long as the result of SPI. Needs SPI.
 */
extern uint64 ps_profile_rows_select(Datum customer_ids);
extern void ps_profile_rows_get(uint64 row, Datum **values, bool **nulls);

/*
 * Reads version and window state of a customer by a statement, into the current
 * context. False: the caller sees no such profile. Needs SPI.
 */
extern bool ps_profile_window_select(Datum customer_id, int64 *version, bytea **window_state);

/* The window state of a customer, in the current context; NULL: the caller sees no such profile. */
extern bytea *ps_profile_window_read(const text *customer_id);

/* A column of a customer by which a person is named or reached, as a***; NULL: the caller sees no such profile, or there is nothing. Needs SPI. */
extern char *ps_profile_masked_read(Datum customer_id, Datum contact);

#endif							/* PS_PROFILE_READER_H */

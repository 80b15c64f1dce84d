/*
 * customer_export.h
 *	  Everything that is stored about one customer, as one document.
 */
#ifndef PS_CUSTOMER_EXPORT_H
#define PS_CUSTOMER_EXPORT_H

#include "postgres.h"

/* The result of export_customer(), a jsonb in SPI's memory. Needs SPI. */
extern Datum ps_customer_export(const char *customer_id);

#endif							/* PS_CUSTOMER_EXPORT_H */

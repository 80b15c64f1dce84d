/*
 * slice.h
 *	  Removes the customers that another server has.
 */
#ifndef PS_SLICE_H
#define PS_SLICE_H

#include "postgres.h"

/*
 * Removes everything about customers but those whose key leads to one of the partitions
 * (int4[]) out of so many, by a partitioner (text). Raises while a rebuild is there, or
 * a sink has something to deliver. Nobody is told, because the customers live on
 * elsewhere. Returns how many profiles. Needs SPI.
 */
extern int64 ps_slice_prune(Datum keep, Datum npartitions, Datum partitioner);

#endif							/* PS_SLICE_H */

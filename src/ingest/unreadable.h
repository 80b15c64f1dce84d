/*
 * unreadable.h
 *	  Messages that librdkafka cannot read.
 */
#ifndef PS_UNREADABLE_H
#define PS_UNREADABLE_H

#include "ingest/worker.h"

/* Shows in the rows of the partitions what librdkafka cannot read. */
extern void ps_unreadable_note(PsWorker *worker, const PsIntake *intake);

#endif							/* PS_UNREADABLE_H */

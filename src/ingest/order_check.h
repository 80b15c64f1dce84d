/*
 * order_check.h
 *	  Whether producers send what lets the order of a customer's events be kept.
 */
#ifndef PS_ORDER_CHECK_H
#define PS_ORDER_CHECK_H

#include "ingest/worker.h"

/* Counts what is wrong with the key and the partition of an item that has its outcome. */
extern void ps_order_check(PsWorker *worker, const PsApplyItem *item, PsCounts *counts);

#endif							/* PS_ORDER_CHECK_H */

/*
 * order_check.c
 *	  Whether producers send what lets the order of a customer's events be kept: the
 *	  customer as the key, and so all its events in one partition of a topic.
 *
 *	  A worker remembers from which partition the last event of a customer came. It
 *	  remembers a fixed number of customers, in a table where a customer has one place
 *	  and takes it from whoever has it. So this costs a comparison and one access to
 *	  memory, and finds customers whose events follow each other soon enough. It does not
 *	  see partitions that another worker reads. A range of events that is applied again
 *	  after a failure may count a customer again.
 */
#include "postgres.h"

#include "ingest/order_check.h"
#include "utils/memutils.h"

#define REMEMBERED 16384		/* customers; a power of two */

/* Where the last event of a customer came from. The hash of 64 bits stands for the customer. */
struct PsLastPartition
{
	int64		customer_key;
	int32		topic_no;
	int32		partition;		/* -1: the place is free */
};

/* Makes the table, of free places. */
static void
begin_remembering(PsWorker *worker)
{
	worker->last_partitions = MemoryContextAlloc(worker->context, REMEMBERED * sizeof(PsLastPartition));
	for (int i = 0; i < REMEMBERED; i++)
		worker->last_partitions[i].partition = -1;
}

/* Remembers where an event came from; whether the customer's event before came from another partition of the topic. */
static bool
has_moved(PsWorker *worker, const PsMessage *message, const PsEvent *event)
{
	uint32		place = ((uint32) event->customer_key + (uint32) message->topic_no) & (REMEMBERED - 1);
	PsLastPartition *last = &worker->last_partitions[place];
	bool		moved;

	moved = last->customer_key == event->customer_key && last->topic_no == message->topic_no &&
		last->partition >= 0 && last->partition != message->partition;
	last->customer_key = event->customer_key;
	last->topic_no = message->topic_no;
	last->partition = message->partition;
	return moved;
}

void
ps_order_check(PsWorker *worker, const PsApplyItem *item, PsCounts *counts)
{
	if (item->event == NULL)
		return;
	counts->other_key += !ps_message_has_key(&item->message, item->event->customer_id, item->event->customer_id_len);
	if (worker->balance.nleases < 2)
		return;					/* the topic has one partition */
	if (worker->last_partitions == NULL)
		begin_remembering(worker);
	counts->other_partition += has_moved(worker, &item->message, item->event);
}

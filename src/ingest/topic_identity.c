/*
 * topic_identity.c
 *	  Whether a topic is still the one that was read. Kafka's protocol, as
 *	  librdkafka 2.0 speaks it, names topics and not their ids: when one is deleted
 *	  and created again, the next fetch goes on at the same offset among other
 *	  messages. So each partition's row keeps the fingerprint of a message that was
 *	  read, and reading begins there whenever partitions are assigned.
 *
 *	  librdkafka tells a topic that is gone only while that lasts, and not at all
 *	  when its queue was full or the process slept meanwhile. What can hide a new
 *	  topic therefore makes the worker assign its partitions again: a leader that
 *	  does not know its partition, no broker to be reached, a worker that did not
 *	  come round for a while, offsets that a look-up finds where none were.
 */
#include "postgres.h"

#include "ingest/worker.h"
#include "port/pg_crc32c.h"

#define CHECK_DISTANCE 100000	/* messages read again, at most, for the sake of the check */
#define DOUBT_MS 200			/* until the broker is asked; at once, it would know no more than librdkafka */
#define FINGERPRINT_BYTES 1024	/* the least max_event_bytes: so much of a value is always kept */
#define STALL_MS 5000			/* long enough to delete a topic and to fill another */

/*
 * CRC of what may be absent, told from what is empty: of its begin and length, as
 * of what is too large no more is kept, and max_event_bytes may be another one then.
 */
static uint32
topic_identity_crc(const char *bytes, int len, int64 cut)
{
	int64		whole = len + cut;
	pg_crc32c	sum;

	if (bytes == NULL)
		return 0;
	INIT_CRC32C(sum);
	COMP_CRC32C(sum, bytes, Min(len, FINGERPRINT_BYTES));
	COMP_CRC32C(sum, &whole, sizeof(whole));
	FIN_CRC32C(sum);
	return sum + 1;
}

static PsFingerprint
topic_identity_fingerprint(const PsMessage *message)
{
	PsFingerprint result = {message->offset, message->kafka_timestamp};

	result.hash = (int64) ((uint64) topic_identity_crc(message->key, message->key_len, message->key_cut) << 32 |
						   topic_identity_crc(message->value, message->value_len, message->value_cut));
	return result;
}

int64
ps_topic_identity_begin(PsPartition *partition, int64 low)
{
	const PsFingerprint *check = &partition->check;

	partition->low = low;
	partition->unverified = check->offset >= low && partition->stored_offset - check->offset <= CHECK_DISTANCE;
	return partition->unverified ? Min(check->offset, partition->stored_offset) : partition->stored_offset;
}

void
ps_topic_identity_suspect(PsWorker *worker, const PsIntake *intake)
{
	ListCell   *cell;

	foreach(cell, intake->suspects)
		for (int i = 0; i < worker->npartitions; i++)
		if (lfirst_int(cell) == -1 || lfirst_int(cell) == worker->partitions[i].partition)
			worker->partitions[i].suspect = worker->topic_suspect = true;
	/* while there is no broker nobody reads on anyway, and fetches would delay the answer of one that is back */
	worker->reassign |= list_member_int(intake->suspects, -1);
	if (intake->suspects != NIL)
		worker->next_lookup = Min(worker->next_lookup, ps_moment_plus(ps_clock_now(), DOUBT_MS));
}

bool
ps_topic_identity_verify(PsWorker *worker, const PsIntake *intake)
{
	bool		same = true;
	bool		any = false;

	for (int i = 0; i < worker->npartitions; i++)
		any |= worker->partitions[i].unverified;
	for (int i = 0; any && i < intake->n; i++)
	{
		const PsMessage *message = &intake->messages[i];
		PsPartition *partition = ps_partition_find(worker, message->partition);
		PsFingerprint found;

		if (partition == NULL || !partition->unverified || message->offset < partition->check.offset)
			continue;
		partition->unverified = false;
		if (message->offset > partition->check.offset)
			continue;			/* compaction or retention took it: nothing can be said */
		found = topic_identity_fingerprint(message);
		partition->recreated = found.hash != partition->check.hash || found.timestamp != partition->check.timestamp;
		same &= !partition->recreated;
	}
	return same;
}

PsFingerprint
ps_topic_identity_next(const PsPartition *partition, const PsMessage *last)
{
	if (last == NULL || partition->unverified)
		return partition->check;
	return topic_identity_fingerprint(last);
}

bool
ps_topic_identity_is_other(PsWorker *worker, const PsStoredOffset *row, int64 low, int64 high)
{
	const PsPartition *partition = ps_partition_find(worker, row->partition);

	if (row->lost)
		return row->next_offset >= low; /* not retention */
	return row->next_offset > high || row->check.offset >= high ||
		(partition != NULL && partition->recreated && partition->epoch == row->epoch);
}

void
ps_topic_identity_note_turn(PsWorker *worker)
{
	PsMoment	now = ps_clock_now();

	/* events that wait would begin to wait again: while there are any, the look-ups must do */
	if (worker->last_turn != 0 && now - worker->last_turn > STALL_MS * INT64CONST(1000) &&
		ps_reorder_held(worker->reorder) == 0 && ps_deferred_bytes(worker->aside) == 0)
		worker->reassign = true;
	worker->last_turn = now;
}

void
ps_topic_identity_note_asked(PsWorker *worker)
{
	for (int i = 0; i < worker->npartitions; i++)
		worker->partitions[i].read_when_asked = worker->partitions[i].offsets.read;
}

void
ps_topic_identity_note_answer(PsWorker *worker)
{
	const PsLookup *lookup = &worker->lookup;

	for (int i = 0; i < worker->npartitions; i++)
	{
		const PsPartition *partition = &worker->partitions[i];

		if (partition->partition >= lookup->npartitions ||
			lookup->partitions[partition->partition].low < partition->low ||
			lookup->partitions[partition->partition].high < partition->read_when_asked)
			worker->topic_suspect = true;
	}
	if (worker->topic_suspect)
		worker->reassign = true;
}

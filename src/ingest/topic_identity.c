/*
 * topic_identity.c
 *	  Whether a topic is still the one that was read. librdkafka 2.0 fetches by the
 *	  names of topics, not by their ids. When a topic is deleted and created again,
 *	  the next fetch goes on at the same offset, among other messages.
 *
 *	  So each partition's row keeps the fingerprint of a message that was read. When
 *	  the partition is assigned, reading begins at that message and compares it.
 *
 *	  librdkafka reports a missing topic only while it is missing. It reports nothing
 *	  when its queue was full or the process slept meanwhile. So the worker assigns
 *	  its partitions again after everything that may hide a new topic:
 *	  - a leader that does not know its partition;
 *	  - a time without any broker;
 *	  - a turn of the loop that came much too late, or a wait that ended too late: a
 *		process that is frozen has no fetch under way that the broker could refuse;
 *	  - first or end offsets that went back.
 *
 *	  It also assigns them again to read again what it could not take.
 */
#include "postgres.h"

#include "ingest/life.h"
#include "ingest/topic_identity.h"
#include "port/pg_crc32c.h"

#define CHECK_DISTANCE 100000	/* at most so many messages are read again for the comparison */
#define DOUBT_MS 200			/* until the broker is asked: before, it knows no more than librdkafka */
#define FINGERPRINT_BYTES 1024	/* the least max_event_bytes: so much of a value is always kept */
#define STALL_MS 5000			/* in this time a topic can be deleted and another one filled */

/*
 * CRC of a key or value; one that is absent and an empty one differ. It covers the
 * first bytes and the length only: of a large value no more is kept, and how much
 * is kept depends on max_event_bytes, which may change.
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

PsFingerprint
ps_topic_identity_fingerprint(const PsMessage *message)
{
	PsFingerprint result = {message->offset, message->kafka_timestamp};

	result.hash = (int64) ((uint64) topic_identity_crc(message->key, message->key_len, message->key_cut) << 32 |
						   topic_identity_crc(message->value, message->value_len, message->value_cut));
	return result;
}

bool
ps_topic_identity_is_near(const PsFingerprint *check, int64 next_offset, int64 low)
{
	return check->offset >= low && next_offset - check->offset <= CHECK_DISTANCE;
}

int64
ps_topic_identity_begin(PsPartition *partition, int64 low)
{
	const PsFingerprint *check = &partition->check;

	partition->low = low;
	partition->unverified = ps_topic_identity_is_near(check, partition->stored_offset, low);
	return partition->unverified ? Min(check->offset, partition->stored_offset) : partition->stored_offset;
}

void
ps_topic_identity_suspect(PsWorker *worker, const PsIntake *intake)
{
	ListCell   *cell;

	foreach(cell, intake->suspects)
		for (int i = 0; i < worker->reading.npartitions; i++)
		if (lfirst_int(cell) == -1 || lfirst_int(cell) == worker->reading.partitions[i].partition)
			worker->reading.partitions[i].suspect = worker->reading.topic_suspect = true;
	/* without a broker nothing is read anyway, and fetches would delay the answer of one that is back */
	if (list_member_int(intake->suspects, -1))
	{
		worker->looking_up.lookup.all_down = true;
		ps_life_look_up(worker);
	}
	if (intake->suspects != NIL)
		worker->looking_up.next = Min(worker->looking_up.next, ps_moment_plus(ps_clock_now(), DOUBT_MS));
}

void
ps_topic_identity_read_again(PsWorker *worker, PsPartition *partition)
{
	partition->suspect = worker->reading.topic_suspect = true;
	worker->looking_up.next = 0;
}

bool
ps_topic_identity_verify(PsWorker *worker, const PsIntake *intake)
{
	bool		same = true;
	bool		any = false;

	for (int i = 0; i < worker->reading.npartitions; i++)
		any |= worker->reading.partitions[i].unverified;
	for (int i = 0; any && i < intake->n; i++)
	{
		const PsMessage *message = &intake->messages[i];
		PsPartition *partition = ps_partition_find(worker, message->topic_no, message->partition);
		PsFingerprint found;

		if (partition == NULL || !partition->unverified || message->offset < partition->check.offset)
			continue;
		partition->unverified = false;
		if (message->offset > partition->check.offset)
			continue;			/* compaction or retention removed the message: there is nothing to compare */
		found = ps_topic_identity_fingerprint(message);
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
	return ps_topic_identity_fingerprint(last);
}

bool
ps_topic_identity_is_other(PsWorker *worker, const PsStoredOffset *row, int64 low, int64 high)
{
	const PsPartition *partition = ps_partition_find(worker, row->topic_no, row->partition);

	if (row->lost)
		return row->next_offset >= low; /* otherwise retention may have lost it */
	return row->next_offset > high || row->check.offset >= high ||
		(partition != NULL && partition->recreated && partition->epoch == row->epoch);
}

void
ps_topic_identity_note_turn(PsWorker *worker)
{
	PsMoment	now = ps_clock_now();

	/* messages that wait would begin to wait again: while there are any, the regular look-ups must do */
	if (worker->reading.last_turn != 0 && ps_waiting_bytes(worker->waiting) == 0 &&
		(worker->reading.overslept || now - worker->reading.last_turn > STALL_MS * INT64CONST(1000)))
		ps_life_look_up(worker);
	worker->reading.last_turn = now;
}

void
ps_topic_identity_note_asked(PsWorker *worker)
{
	for (int i = 0; i < worker->reading.npartitions; i++)
		worker->reading.partitions[i].read_when_asked = worker->reading.partitions[i].offsets.read;
}

void
ps_topic_identity_note_answer(PsWorker *worker)
{
	const PsLookup *lookup = &worker->looking_up.lookup;

	for (int i = 0; i < worker->reading.npartitions; i++)
	{
		const PsPartition *partition = &worker->reading.partitions[i];
		const PsLookupTopic *topic = ps_lookup_topic(lookup, partition->topic_no);
		const PsLookupPartition *answer = ps_lookup_partition(lookup, partition->topic_no, partition->partition);

		if (topic != NULL && topic->npartitions == 0 && !topic->missing)
			continue;			/* the broker did not answer for this topic: its partitions are read on */
		if (answer == NULL || answer->low < partition->low || answer->high < partition->read_when_asked)
			worker->reading.topic_suspect = true;
	}
	if (worker->reading.topic_suspect)
		ps_life_look_up(worker);
}

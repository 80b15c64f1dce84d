/*
 * topic_identity.h
 *	  Whether a topic is still the one that was read.
 */
#ifndef PS_TOPIC_IDENTITY_H
#define PS_TOPIC_IDENTITY_H

#include "ingest/partition.h"

extern PsFingerprint ps_topic_identity_fingerprint(const PsMessage *message);

/* Whether the message of a fingerprint is in the topic, and not too far before the next offset to be read again. */
extern bool ps_topic_identity_is_near(const PsFingerprint *check, int64 next_offset, int64 low);

/* Where to begin to read a partition: at the message of its fingerprint, to compare it, or at its stored offset. */
extern int64 ps_topic_identity_begin(PsPartition *partition, int64 low);

/*
 * Takes no more of partitions whose messages may be of another topic, as the consumer
 * says. They are looked up once the broker answers.
 */
extern void ps_topic_identity_suspect(PsWorker *worker, const PsIntake *intake);

/* Takes no more of a partition until it is read again from its stored offset, soon. */
extern void ps_topic_identity_read_again(PsWorker *worker, PsPartition *partition);

/* Compares fingerprints with what was read; false when a topic is another one. */
extern bool ps_topic_identity_verify(PsWorker *worker, const PsIntake *intake);

/* The fingerprint to store after a finished message; NULL: none finished, the stored one stays. */
extern PsFingerprint ps_topic_identity_next(const PsPartition *partition, const PsMessage *last);

/* Whether a row's offset is of another topic than the one that has these offsets now. */
extern bool ps_topic_identity_is_other(PsWorker *worker, const PsStoredOffset *row, int64 low, int64 high);

/* Note a turn of the loop, a question to the broker and its answer. Each may give a reason to look up again. */
extern void ps_topic_identity_note_turn(PsWorker *worker);
extern void ps_topic_identity_note_asked(PsWorker *worker);
extern void ps_topic_identity_note_answer(PsWorker *worker);

#endif							/* PS_TOPIC_IDENTITY_H */

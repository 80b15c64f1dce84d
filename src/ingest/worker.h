/*
 * worker.h
 *	  State of a process that runs a stream, alone or with others.
 */
#ifndef PS_WORKER_H
#define PS_WORKER_H

#include "apply/apply.h"
#include "clock.h"
#include "core/offset_set.h"
#include "core/reorder.h"
#include "ingest/deferred.h"
#include "kafka/consumer.h"
#include "kafka/lookup.h"
#include "message.h"
#include "process/backoff.h"
#include "process/bgworker.h"
#include "process/logged_reasons.h"
#include "store/partition_catalog.h"
#include "store/stream_catalog.h"

#define PS_MAX_HELD_SPAN (8 * 1000 * 1000)	/* events behind the one held longest: a bit each in stream_offsets */

typedef struct PsPartition
{
	int32		partition;
	int32		epoch;
	int64		stored_offset;	/* next_offset as stored */
	int64		commits;		/* likewise */
	int64		read_before;	/* what is read below was read before the worker started */
	int64		read_stored;	/* read_offset as stored */
	PsFingerprint check;		/* as stored */
	bool		unverified;		/* its message may still come */
	bool		recreated;		/* another message came in its place */
	bool		suspect;		/* nothing more of it is taken until it is assigned again */
	int64		refused_offset; /* where librdkafka refused a message, */
	int64		refused_behind; /* as its row says, while its stored offset is this one; 0: it does not */
	int64		low;			/* first offset of the topic when it was assigned */
	int64		read_when_asked;	/* how far it was read when the look-up under way began */
	PsOffsetSet offsets;
	int64		unfinished_bytes;	/* of the messages in memory that are read and not finished */
	PsCounts	counts;			/* consumed and replayed since the last commit */
} PsPartition;

/* What a worker has tried since it started, see health.c */
typedef enum PsAttempt
{
	PS_ATTEMPT_START,			/* counted */
	PS_ATTEMPT_NONE,
	PS_ATTEMPT_BATCH,			/* counted */
	PS_ATTEMPT_PROVEN
} PsAttempt;

/* What an error is laid to */
typedef enum PsFault
{
	PS_FAULT_RANGE,				/* what was applied, or whatever else was done */
	PS_FAULT_SIZE,				/* of the transaction: it is smaller already */
	PS_FAULT_LOCK				/* somebody else's */
} PsFault;

/* What is known of a partition of the topic, read by us or not. */
typedef struct PsLease
{
	bool		held;
	bool		readable;		/* wanted, and its offset is not lost */
} PsLease;

/* What a worker does at the moment, and what of that has failed; bits */
#define PS_DOING_CONTROL 1		/* reads its stream */
#define PS_DOING_CONNECT 2		/* makes its client */
#define PS_DOING_LOOKUP 4		/* takes the answer of a look-up */
#define PS_DOING_BATCH 8
#define PS_DOING_RETENTION 16	/* without which the stream runs on */
#define PS_DOING_BROKER 32		/* asks the broker */

typedef struct PsWorker
{
	int			stream_id;
	bool		begun;			/* it is the stream's worker, and has read the stream */
	bool		flushing;		/* it applies what is held before it ends */
	bool		ready;			/* of a rebuild: it has read to what was the end of the topic */
	PsStream   *stream;
	int			number;			/* from 0, among the stream's workers */
	MemoryContext context;		/* as long as the worker */
	MemoryContext stream_context;	/* of stream, replaced when that is read again */
	MemoryContext batch_context;	/* reset after each batch */
	MemoryContext apply_context;	/* reset before each transaction */
	PsConsumer *consumer;
	List	   *connection;		/* the options that the consumer was made with */
	PsLookup	lookup;
	PsMoment	next_lookup;
	PsPartition *partitions;	/* assigned, ascending */
	int			npartitions;
	PsLease    *leases;			/* of each partition of the topic */
	int			nleases;
	PsMoment	next_balance;
	PsReorder  *reorder;
	PsDeferred *aside;
	PsMoment	next_progress;	/* when to store what was read but is held */
	bool		reassign;		/* read offsets again and assign */
	bool		topic_suspect;	/* likewise, once the broker answers: a topic may be another one */
	PsMoment	last_turn;		/* when the loop came round, 0 before the first time */
	int			lookup_interval_ms;
	bool		lookup_settled; /* the look-up under way began while nothing moved */
	bool		lookup_outdated;	/* it was under way when the stream was altered */
	int			max_customers;	/* of a transaction */
	int			budget_successes;	/* transactions since that was changed */
	int			budget_patience;	/* so many before it grows */
	bool		budget_grown;	/* since it was last too large */
	bool		told;			/* a transaction was given up for what the worker is told, and nothing failed */
	bool		recheck;		/* read the stream and its options again at the next attempt */
	List	   *poison_messages;	/* messages that ended a worker: PsPoisonMessage */
	int			doing;
	int			failing;		/* what does not work */
	int			failures;		/* in a row, but for those of a range */
	List	   *failed;			/* the range that failed just now, of what failure.c knows */
	List	   *suspects;		/* likewise */
	int			retention_failures;
	char	   *retention_error;	/* NULL: none */
	PsMoment	next_attempt;
	PsMoment	waits_until;	/* so long a wait for a lock is not taken for over without a batch */
	PsMoment	next_report;
	PsMoment	started_at;
	PsAttempt	attempt;
	int64		minute_messages;
	int64		minute_dead;
	PsMoment	minute_ends;
	PsMoment	next_retention;
	PsMoment	next_letters;	/* when the bytes of dead letters are looked at again */
	int64		retention_page; /* of event_ids, where the next step begins */
	PsStreamState state;		/* as last written */
	char	   *error;
	PsLoggedReasons logged;		/* what the log has since the stream was well */
	char	   *client_error;	/* librdkafka's newest, since the last good look-up */
} PsWorker;

/* partition.c: the partition of that number, NULL when it is not assigned */
extern PsPartition *ps_partition_find(PsWorker *worker, int32 partition);

/* assignment.c: takes the answer of a look-up into the catalogue and assigns. */
extern void ps_assignment_update(PsWorker *worker);
extern int64 ps_assignment_start_ms(PsStream *stream);

/* topic_identity.c: where a partition is to be read from that begins at its stored offset; sets what it has to verify */
extern int64 ps_topic_identity_begin(PsPartition *partition, int64 low);

/* Bars partitions of which an intake may hold messages of another topic; they are to be assigned again. */
extern void ps_topic_identity_suspect(PsWorker *worker, const PsIntake *intake);

/* Compares fingerprints with what was read; false when a topic is another one, and is to be assigned again. */
extern bool ps_topic_identity_verify(PsWorker *worker, const PsIntake *intake);

/* The fingerprint to be stored after a message that is finished, NULL: none is. */
extern PsFingerprint ps_topic_identity_next(const PsPartition *partition, const PsMessage *last);

/* Whether a row's offset is of another topic than the one that has these offsets now. */
extern bool ps_topic_identity_is_other(PsWorker *worker, const PsStoredOffset *row, int64 low, int64 high);

/* Notes a turn of the loop, a look-up that begins, and its answer: each may give a reason to verify. */
extern void ps_topic_identity_note_turn(PsWorker *worker);
extern void ps_topic_identity_note_asked(PsWorker *worker);
extern void ps_topic_identity_note_answer(PsWorker *worker);

/* balance.c: takes and gives back leases, so that all workers have their share; a change asks for a look-up */
extern void ps_balance(PsWorker *worker);

/* Notes how many partitions the topic has. */
extern void ps_balance_resize(PsWorker *worker, int npartitions);

/* Whether a partition is ours, or is now. */
extern bool ps_balance_hold(PsWorker *worker, int partition);
extern void ps_balance_release(PsWorker *worker, int partition);

/* batch.c: applies what an intake holds and what is due, isolating what cannot be applied; or all that is held. */
extern void ps_batch_apply(PsWorker *worker, PsIntake *intake, bool flush);

/* When something held will be due, or shown; PS_MOMENT_PAST: more is due than one batch took, PS_MOMENT_NEVER: never. */
extern PsMoment ps_batch_next_due(const PsWorker *worker);

/* Whether nothing is read until a customer's lock is free, because no more can be held. */
extern bool ps_batch_is_blocked(const PsWorker *worker);

/* deferred_rows.c: how many entries' customers have rows that somebody keeps; looks which of those set aside are free again */
extern int	ps_deferred_count_rows(const PsApplyItem *items, int n);
extern void ps_deferred_probe_rows(PsWorker *worker);

/* lock_budget.c: how many customers, and so locks, a transaction may take */
extern void ps_lock_budget_reset(PsWorker *worker);
extern void ps_lock_budget_succeeded(PsWorker *worker);

/* After the lock table was full; whether a smaller transaction can be tried. */
extern bool ps_lock_budget_shrink(PsWorker *worker);

/* progress.c: what was read, and which messages of it are finished */
extern void ps_progress_init(PsPartition *partition, const PsStoredOffset *stored, MemoryContext context);
extern void ps_progress_forget(PsWorker *worker);
extern bool ps_progress_read(PsWorker *worker, const PsMessage *message);
extern void ps_progress_end(PsWorker *worker, const PsPosition *end);
extern void ps_progress_mark(PsWorker *worker, const PsApplyItem *items, int n, bool finished);

/* The moves that a transaction over these entries, marked before, makes; how many. */
extern int	ps_progress_moves(PsWorker *worker, const PsApplyItem *items, int n, bool reading, PsOffsetMove *moves);

/* Takes over what was committed. */
extern void ps_progress_committed(PsWorker *worker, const PsOffsetMove *moves, int n);

/* When to store what was read and is held, PS_MOMENT_NEVER when that is stored. */
extern PsMoment ps_progress_due(const PsWorker *worker);

/* unreadable.c: shows what librdkafka refuses, in the rows of the partitions, until their offsets move */
extern void ps_unreadable_note(PsWorker *worker, const PsIntake *intake);

/* health.c: counts the start, and ends the process when too many came to nothing; what was asked is answered; a batch begins */
extern void ps_health_start(PsWorker *worker);
extern void ps_health_answered(PsWorker *worker);
extern void ps_health_begin(PsWorker *worker);

/* Counts what a transaction committed. */
extern void ps_health_count(PsWorker *worker, const PsCounts *counts);

/*
 * Between batches: what was counted is forgotten once one is committed, and the
 * stream is paused when too much became dead letters: ps_control_serve() then ends it.
 */
extern void ps_health_check(PsWorker *worker);

/* poison.c: reads what ended earlier workers, and notes what ends this one; refuses those among the entries */
extern void ps_poison_begin(PsWorker *worker);
extern void ps_poison_refuse(const PsWorker *worker, PsApplyItem *items, int n);

/* failure.c: notes a range that could not be applied; and that one was, while there are suspects */
extern void ps_failure_note(PsWorker *worker, const PsApplyItem *items, int n);
extern void ps_failure_applied(PsWorker *worker, const PsApplyItem *items, int n);

/* After an error of what the worker was doing: how long the worker waits, and how long what has failed does. */
extern int64 ps_failure_begin(PsWorker *worker, PsFault fault, int64 *next_attempt_ms);

/* The thing works again. */
extern void ps_failure_over(PsWorker *worker, int doing);

/* Each turn: suspects whose time has come are read again. */
extern void ps_failure_turn(PsWorker *worker);

/* Whether a partition is not to be read yet; how many of the entries a transaction may take. */
extern bool ps_failure_waits(const PsWorker *worker, int32 partition);
extern int	ps_failure_prefix(const PsWorker *worker, const PsApplyItem *items, int n);

/* score_timer.c: starts the refresh of scores and segments when it is due */
extern void ps_score_timer(void);

/* retention.c: a step of retention, when one is due */
extern void ps_retention(PsWorker *worker);

/* After an error of a step: the stream runs on, and the next step comes later each time. */
extern void ps_retention_failed(PsWorker *worker, const char *reason);

/* control.c: interrupts, reload, and whether the stream shall still run: may end the process */
extern void ps_control_init(void);
extern void ps_control_begin(PsWorker *worker);
extern void ps_control_serve(PsWorker *worker);

/* Around a wait for work. */
extern void ps_control_waiting(PsWorker *worker, bool waiting);

/* transaction.c: whether a stream that was read says that the worker runs */
extern bool ps_worker_is_wanted(const PsWorker *worker, const PsStream *stream);

/*
 * Begins a transaction that changes something: none does while a session holds the stream
 * back, to pause it, say. Raises when the worker was told something else meanwhile.
 */
extern void ps_worker_begin(PsWorker *worker);

/* Raises when the worker is told something else by now; at a stop it is told already. */
extern void ps_control_check(PsWorker *worker);

/* Says that the stream runs, or why it does not read. */
extern void ps_worker_set_running(PsWorker *worker);

/* After an error: has the partitions read again from their stored offsets. */
extern void ps_worker_read_again(PsWorker *worker, int64 backoff);

/* Writes the state where stat_streams shows it, when it changed; a change, or a new reason, is a line of the log. */
extern void ps_worker_set_state(PsWorker *worker, PsStreamState state, const char *error,
								const char *hint, int64 next_attempt_ms);

/*
 * The same for an error that names a customer: that is for stat_streams alone, because
 * it is true while the customer is held only; the log and stream_log have the reason.
 */
extern void ps_worker_set_held(PsWorker *worker, PsStreamState state, const char *reason, const char *error, const char *hint);

/* The same after an ERROR that is being recovered from, whose report is the line. */
extern void ps_worker_report_error(PsWorker *worker, ErrorData *error, bool news, int64 next_attempt_ms);

/* Takes over what the process before said: that is no news. */
extern void ps_worker_begin_state(PsWorker *worker);

#endif							/* PS_WORKER_H */

/*
 * apply.h
 *	  Applies messages in one transaction: it writes profiles, windows, event ids,
 *	  dead letters, offsets and notifications. The worker and apply_events() both
 *	  call it.
 */
#ifndef PS_APPLY_H
#define PS_APPLY_H

#include "core/event.h"
#include "core/handlers.h"
#include "core/topic_format.h"
#include "message.h"
#include "store/offsets.h"

typedef enum PsNotifyMode
{
	PS_NOTIFY_OFF,
	PS_NOTIFY_CUSTOMER,
	PS_NOTIFY_BATCH
} PsNotifyMode;

/* What becomes of late events. */
typedef enum PsLatePolicy
{
	PS_LATE_TO_DEAD_LETTERS,
	PS_LATE_IS_APPLIED,
	PS_LATE_IS_DROPPED
} PsLatePolicy;

typedef struct PsApplySettings
{
	int			stream_id;		/* 0: the messages come from a session */
	const char *stream;			/* NULL: from a session */
	int			letters_of;		/* stream of a session's events: its dead letters are of it, and it watches; 0: none */
	TimestampTz now;
	int64		max_clock_skew_us;
	int			max_event_bytes;
	const PsFormatMap *format_map;	/* of the stream's format; NULL: profile_event */
	const PsTopicFormat *own_formats;	/* of topics that have one of their own */
	int			nown_formats;
	const PsRules *rules;		/* NULL: none */
	PsTimeUnit	time_unit;		/* of timestamps that are numbers */
	int			event_id_scope; /* the stream whose event ids count alone; 0: all streams share event ids */
	int64		dedupe_retention_us;
	const PsTextSet *event_types;	/* that are taken; NULL: all */
	bool		accept_unknown_schema;	/* see PsDecodeSettings */
	bool		key_is_customer;	/* an event is refused whose key is not its customer's id */
	bool		partition_is_shard; /* and one whose partition is not the shard of its customer */
	int64		late_tolerance_us;	/* -1: no event is late */
	PsLatePolicy late_policy;
	int			customer_lock_timeout_ms;	/* then a customer without a lock is left out; -1: wait for the lock */
	bool		classify_only;	/* write no dead letters: the caller has them already */
	PsNotifyMode notify;
	const char *notify_channel;
	bool		notify_full;	/* skip notifications: the server's queue has no room */
	const char *segment_channel_prefix; /* NULL: no channels of segments */
} PsApplySettings;

/* Which step of apply rejected an item. */
typedef enum PsRejectedBy
{
	PS_NOT_REJECTED,
	PS_REJECTED_BY_DECODER,
	PS_REJECTED_BY_HANDLER,		/* or by the worker, see ps_item_reject() */
	PS_REJECTED_BY_FUNCTION		/* of a user; each ps_apply_items() clears and finds it anew */
} PsRejectedBy;

struct PsWaitingMessage;
struct PsParts;

/*
 * One message on its way through apply. The caller fills message, and may fill
 * event, when it has decoded the message before. ps_apply_decode() sets event,
 * owner or a rejection; ps_apply_read() sets effect or a rejection. ps_apply_items()
 * sets outcome; it may be called again with the same items after a rollback.
 */
typedef struct PsApplyItem
{
	PsMessage	message;
	PsEvent    *event;			/* NULL: a tombstone, or the decoder rejected the message */
	const PsEvent *owner;		/* tells the customer; of a rejected message nothing else; NULL: unknown */
	PsEffect   *effect;			/* what the event does; NULL: not read */
	PsEffect   *raised_effect;	/* the caller's room for it, when upcasters convert the event first; NULL: not asked */
	PsReject   *reject;			/* why the item is dead, NULL: it is not */
	PsRejectedBy rejected_by;
	bool		is_other_type;	/* than the stream takes: it has no event */
	int64		late_us;		/* how much older than the newest event of its customer; 0: it is not late */
	int			shard;			/* of distributed profiles */
	bool		shard_is_known; /* already before the message is decoded, because its key or partition says it */
	bool		is_followed;	/* by another item of the same message and shard */
	bool		is_deferred;	/* the caller leaves its customer out */
	int			row_holder;		/* holds the row of its customer, see ps_lock_wait_holder(); 0: nobody */
	struct PsParts *parts;		/* shared with other items of the same message; NULL: there are none */
	struct PsWaitingMessage *waiting;	/* the caller's copy of the message, NULL: none */
	PsOutcome	outcome;
} PsApplyItem;

/* Decodes the items that have no event yet, and are not elsewhere; needs no transaction. */
extern void ps_apply_decode(PsApplyItem *items, int n, const PsApplySettings *settings);

/* Reads what the handlers need of the events; needs no transaction. */
extern void ps_apply_read(PsApplyItem *items, int n, const PsApplySettings *settings);

/* Rejects an item. The first rejection of an item stays, unless it is a function's. */
extern void ps_item_reject(PsApplyItem *item, PsReject *reject, PsRejectedBy by);

/* Why an item that has its outcome is dead: it is late, or it was rejected. */
extern PsReject *ps_item_reason(const PsApplyItem *item);

/* How many of the first items one transaction may take: at most max_customers distinct customers. */
extern int	ps_apply_prefix(PsApplyItem *items, int n, int max_customers);

/*
 * Raised when functions took too long for several items. The caller applies these
 * one by one, so that each is committed before the next one takes its time.
 */
#define PS_ERRCODE_SLOW MAKE_SQLSTATE('5', '4', 'P', 'S', '1')

/*
 * Applies decoded items within the caller's transaction and sets their outcomes:
 * PS_DEFERRED for all items of a customer who is left out, PS_BLOCKED for all of
 * one who is blocked.
 *
 * If customer_lock_timeout_ms is a bound, it does not wait for rows either. When
 * another transaction holds the row of a customer, it sets row_holder of that
 * customer's items and raises ERRCODE_LOCK_NOT_AVAILABLE: the caller rolls back and
 * calls again. It also raises errors of the system and of triggers.
 */
extern void ps_apply_items(PsApplyItem *items, int n, const PsApplySettings *settings);

/* The item for which a user's function runs at this moment, NULL: none runs. */
extern const PsApplyItem *ps_apply_calling(void);

/*
 * Moves offsets in the same transaction. Raises ERRCODE_T_R_SERIALIZATION_FAILURE
 * when another worker has moved them meanwhile.
 */
extern void ps_apply_offsets(const PsApplySettings *settings, const PsOffsetMove *moves, int n);

/*
 * The settings of events that do not come from a stream: none is late, and locks are
 * waited for as long as the session waits. They notify nobody.
 */
extern PsApplySettings ps_apply_session_settings(void);

/* The default for max_customers: the running workers share a quarter of the cluster's lock table. */
extern int	ps_apply_max_customers(int running_workers);

/* Counts one message by its outcome. A held message is in no counter: it is counted when it is applied. */
extern void ps_apply_count(PsCounts *counts, PsOutcome outcome);

#endif							/* PS_APPLY_H */

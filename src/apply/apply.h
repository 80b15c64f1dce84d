/*
 * apply.h
 *	  The one transaction: messages in, profiles, windows, event ids, dead
 *	  letters, offsets and notifications out. The worker and apply_events()
 *	  both come through here.
 */
#ifndef PS_APPLY_H
#define PS_APPLY_H

#include "core/event.h"
#include "core/handlers.h"
#include "message.h"
#include "store/offsets.h"

typedef enum PsNotifyMode
{
	PS_NOTIFY_OFF,
	PS_NOTIFY_CUSTOMER,
	PS_NOTIFY_BATCH
} PsNotifyMode;

typedef struct PsApplySettings
{
	int			stream_id;		/* 0: not from a stream */
	const char *stream;			/* NULL likewise */
	const char *topic;
	TimestampTz now;
	int64		max_clock_skew_us;
	int			max_event_bytes;
	const PsFormatMap *format_map;	/* of the stream's format; NULL: profile_event */
	const PsRules *rules;		/* NULL: none */
	PsTimeUnit	time_unit;		/* of timestamps that are numbers */
	int			event_id_scope; /* stream_id of a stream whose event ids are its own; 0: all share them */
	int64		dedupe_retention_us;
	int64		late_tolerance_us;	/* -1: no event is late */
	int			customer_lock_timeout_ms;	/* a customer whose lock is not had by then is left out; -1: wait for it */
	bool		classify_only;	/* no row for what is dead: the caller has one */
	PsNotifyMode notify;
	const char *notify_channel;
	bool		notify_full;	/* skip notifications: there is no room for them */
	const char *segment_channel_prefix; /* NULL: no channels of segments */
} PsApplySettings;

/*
 * One message on its way through apply. The caller fills message;
 * ps_apply_decode() fills event or reject, ps_apply_read() effect or refusal;
 * ps_apply_items() fills outcome, and may be called again for the same entries
 * after a rollback.
 */
typedef struct PsApplyItem
{
	PsMessage	message;
	PsEvent    *event;			/* exactly one of event, reject is set, or */
	PsReject   *reject;			/* neither for a tombstone */
	const PsEvent *owner;		/* whose message it is: event, or of a reject a customer and nothing else, if known */
	PsEffect   *effect;			/* of an event, unless */
	PsReject   *refusal;		/* its handler refuses it: dead, if not a duplicate */
	PsReject   *failure;		/* a function of its type refuses it or fails; found anew by each ps_apply_items() */
	PsReject   *late;			/* it is older than what was applied for its customer may be */
	bool		aside;			/* set by the caller: its customer is to be left out */
	int			holder;			/* likewise, unless 0: who keeps its customer's row, as of ps_lock_wait_holder() */
	void	   *kept;			/* the caller's own: where it keeps the message */
	PsOutcome	outcome;
} PsApplyItem;

/* Decodes entries [0, n), then reads what their handlers need; neither needs a transaction. */
extern void ps_apply_decode(PsApplyItem *items, int n, const PsApplySettings *settings);
extern void ps_apply_read(PsApplyItem *items, int n, const PsApplySettings *settings);

/* How many of the entries one transaction may take: at most max_customers distinct customers. */
extern int	ps_apply_prefix(PsApplyItem *items, int n, int max_customers);

/* Raised when functions took too long for several entries: they are to be applied one by one, so that each is committed. */
#define PS_ERRCODE_SLOW MAKE_SQLSTATE('5', '4', 'P', 'S', '1')

/*
 * Applies decoded entries within the caller's transaction and sets their
 * outcome, or raises ERRCODE_LOCK_NOT_AVAILABLE and sets the keeper of those
 * whose customer's row somebody keeps, where customer_lock_timeout_ms is a bound. An outcome is PS_HELD for all of a customer who is left out, PS_BLOCKED for all of one who is blocked. Raises for infrastructure and for what a table's triggers refuse.
 */
extern void ps_apply_items(PsApplyItem *items, int n, const PsApplySettings *settings);

/* The entry for which a function of a user is called at this moment, NULL: none is. */
extern const PsApplyItem *ps_apply_calling(void);

/*
 * Moves offsets in the same transaction; raises ERRCODE_T_R_SERIALIZATION_FAILURE
 * when a row does not hold what was expected (another worker took over).
 */
extern void ps_apply_offsets(const PsApplySettings *settings, const PsOffsetMove *moves, int n);

/* Default cut: a quarter of the cluster's lock table shared by the running workers. */
extern int	ps_apply_max_customers(int running_workers);

/* Counts one message by its outcome. A held message is in no counter: it is counted when it is applied. */
extern void ps_apply_count(PsCounts *counts, PsOutcome outcome);

#endif							/* PS_APPLY_H */

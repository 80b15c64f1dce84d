/*
 * live_predicate.h
 *	  The predicate of a live segment, compiled: an expression over the profile in memory.
 *
 *	  live		it depends on nothing but the row of the customer, on metrics of the
 *				customer, and on the time in ways of which the next change is known
 *	  atom		a comparison of which the result changes with the time alone
 */
#ifndef PS_LIVE_PREDICATE_H
#define PS_LIVE_PREDICATE_H

#include "nodes/execnodes.h"
#include "store/profile_store.h"

typedef struct PsLivePredicate PsLivePredicate;

/* The metrics that predicates share, so that each is read once for a profile: a list of PsLiveMetric. */
typedef struct PsLivePool
{
	const PsMetrics *metrics;
	struct List *used;
} PsLivePool;

/*
 * Compiles a predicate that ps_segment_check() has checked, in the current memory
 * context and as the current user. Returns NULL when it is not live; then *why tells
 * why, as the end of a sentence. Raises errors of the parser.
 */
extern PsLivePredicate *ps_live_predicate_make(const char *text, PsLivePool *pool, const char **why);

/* Whether it reads samples of metrics, or attributes, and whether its result may depend on settings of the session. */
extern bool ps_live_predicate_reads_samples(const PsLivePredicate *predicate);
extern bool ps_live_predicate_reads_attributes(const PsLivePredicate *predicate);
extern bool ps_live_predicate_reads_settings(const PsLivePredicate *predicate);

/* Makes a predicate ready to be evaluated, as the current user; it stays so as long as the current memory context. */
extern void ps_live_predicate_begin(PsLivePredicate *predicate);

/* Sets the profile on which predicates are evaluated. The profile must stay until the next one is set. */
extern void ps_live_value_begin(PsStoredProfile *stored, TimestampTz as_of);

/* Whether the predicate is true of that profile. */
extern bool ps_live_predicate_holds(PsLivePredicate *predicate, ExprContext * context);

/* The first moment at which a predicate that was evaluated for the profile can change without an event; DT_NOEND: none. */
extern TimestampTz ps_live_value_due_at(void);

#endif							/* PS_LIVE_PREDICATE_H */

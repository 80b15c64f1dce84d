/*
 * score_catalog.h
 *	  The SQL of a refresh of scores: finds the profiles that are due, reads and writes
 *	  their scores, finds the function that replaces the defaults, and stores the
 *	  progress of the refresh. Every call needs SPI.
 */
#ifndef PS_SCORE_CATALOG_H
#define PS_SCORE_CATALOG_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "storage/itemptr.h"

#define PS_MAX_SEGMENT_BYTES 63 /* of a name, which may become that of a column */

typedef struct PsScores
{
	const char *segment;
	double		churn_risk_score;
	Datum		lifetime_value;
} PsScores;

/* A profile that is due. */
typedef struct PsDue
{
	const char *customer_id;
	ItemPointerData place;		/* of its row */
	int			turn;			/* place among the due rows of its page */
} PsDue;

/* A profile while its batch is refreshed. */
typedef struct PsScored
{
	const char *customer_id;
	bool		found;			/* the profile exists, and the fields below are set */
	int64		version;		/* this and the next field tell whether it has changed meanwhile */
	TimestampTz watermark;
	TimestampTz updated_at;
	PsScores	old;
	PsScores	new;
	Datum		document;		/* as of get_profile(), if the caller wants it */
	bool		unscored;		/* no refresh has scored it yet */
	bool		slow;			/* the function took too long for it */
	bool		failed;
	bool		done;			/* its row has the new scores */
} PsScored;

/*
 * A pass over all profiles, of one refresh, or of several when it is interrupted. Rows say only whether they were ever
 * scored; that the scores of a customer are fresh follows from the pass, so that rows whose scores stay are not written.
 */
typedef struct PsPass
{
	TimestampTz began_at;		/* DT_NOBEGIN: there is none */
	const char *reached;		/* it has come up to this customer; NULL: to the end */
	bool		missed;			/* some before him have older scores */
} PsPass;

/* Counters of a refresh; skipped are profiles whose customer's lock was not free. */
typedef struct PsRefreshCounts
{
	int64		done;
	int64		changed;
	int64		segment_changes;
	int64		failed;
	int64		skipped;
	int64		notifications_skipped;
	double		batch_ms;		/* duration of the last batch */
	double		lock_ms;		/* longest time for which a batch held locks of customers */
} PsRefreshCounts;

/* Finds at most limit profiles behind an id that no refresh scored, or that a pass has not reached, in order; returns how many. */
extern int	ps_scores_due(const char *after, const PsPass *pass, int limit, PsDue *due);

/* Reads profiles, with the result of default_scores() as of a moment. */
extern void ps_scores_read(PsScored **profiles, int n, TimestampTz as_of, bool documents);

/* Writes the new scores of profiles that have not changed since they were read, and tells by done which. */
extern void ps_scores_write(PsScored **profiles, int n, TimestampTz scored_at);

/* Keeps the old scores of those that were written, where they are tracked. */
extern void ps_scores_keep_old(PsScored **profiles, int n, TimestampTz scored_at);

/* The function that replaces the defaults. */
typedef struct PsScoreFunction
{
	char	   *function;
	Oid			owner;			/* role with whose rights it runs; it may not exist any more */
	bool		confirmed;
} PsScoreFunction;

/* Finds the function; false when there is none. */
extern bool ps_score_function_find(PsScoreFunction *found);
extern void ps_score_function_set(const char *function, Oid owner); /* NULL: none */

/* The pass of the shard in use that the last refresh stored; into the current context. Stores one; a customer without a profile is not stored. */
extern void ps_pass_read(PsPass *pass);
extern void ps_pass_write(const PsPass *pass);

/* Write the only row of score_refresh: begin, progress and end of a refresh. */
extern void ps_refresh_begin(void);
extern void ps_refresh_progress(const PsRefreshCounts *counts);
extern void ps_refresh_note_error(const char *error);
extern void ps_refresh_end(const PsRefreshCounts *counts);
extern void ps_refresh_fail(const char *error);

/* Whether the last one failed, and no segment since. */
extern bool ps_refresh_has_failed(void);

/* Whether profile_stream.score_interval has passed since the last refresh began. */
extern bool ps_refresh_is_due(void);

#endif							/* PS_SCORE_CATALOG_H */

/*
 * score_catalog.h
 *	  The SQL of a refresh of scores: which profiles are due, what their scores are
 *	  and were, and writing them; the function that replaces the defaults; how far
 *	  the refresh has come. Every call needs SPI.
 */
#ifndef PS_SCORE_CATALOG_H
#define PS_SCORE_CATALOG_H

#include "postgres.h"

#include "datatype/timestamp.h"

#define PS_MAX_SEGMENT_BYTES 63 /* of a name; as a column of a view may have */

typedef struct PsScores
{
	const char *segment;
	double		churn_risk_score;
	Datum		lifetime_value;
} PsScores;

/* A profile on its way through a batch. */
typedef struct PsScored
{
	const char *customer_id;
	bool		found;			/* what follows is read */
	int64		version;		/* these two say whether it changed meanwhile */
	TimestampTz watermark;
	PsScores	old;
	PsScores	new;
	Datum		document;		/* as get_profile(), where the caller wanted it */
	bool		slow;			/* the function took too long */
	bool		failed;
	bool		written;
} PsScored;

/* What a refresh has done; skipped: somebody else kept it busy. */
typedef struct PsRefreshCounts
{
	int64		done;
	int64		changed;
	int64		segment_changes;
	int64		failed;
	int64		skipped;
	int64		notifications_skipped;
	double		batch_ms;		/* the last one */
	double		lock_ms;		/* the longest time for which one held its customers */
} PsRefreshCounts;

/* Ids of profiles behind one that were not scored after a moment, in order, at most limit; returns how many. */
extern int	ps_scores_due(const char *after, TimestampTz before, int limit, PsScored **profiles);

/* Reads profiles, with what default_scores() says of them as of a moment. */
extern void ps_scores_read(PsScored **profiles, int n, TimestampTz as_of, bool documents);

/* Writes the new scores of those that are as they were when they were read. */
extern void ps_scores_write(PsScored **profiles, int n, TimestampTz scored_at);

/* The function that replaces the defaults. */
typedef struct PsScoreFunction
{
	char	   *function;
	Oid			owner;			/* whose rights it runs with; may be gone */
	bool		confirmed;
} PsScoreFunction;

/* False when there is none. */
extern bool ps_score_function_find(PsScoreFunction *found);
extern void ps_score_function_set(const char *function, Oid owner); /* NULL: none */

/* The one row of score_refresh. */
extern void ps_refresh_begin(void);
extern void ps_refresh_progress(const PsRefreshCounts *counts);
extern void ps_refresh_note_error(const char *error);
extern void ps_refresh_end(const PsRefreshCounts *counts);
extern void ps_refresh_fail(const char *error);

/* Whether the last one failed, and no segment since. */
extern bool ps_refresh_has_failed(void);

/* Microseconds since the last refresh began, whatever became of it; -1 when there was none. */
extern int64 ps_refresh_age_us(void);

/* Whether profile_stream.score_interval has passed since then. */
extern bool ps_refresh_is_due(void);

#endif							/* PS_SCORE_CATALOG_H */

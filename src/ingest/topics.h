/*
 * topics.h
 *	  The topics of a worker's stream.
 */
#ifndef PS_TOPICS_H
#define PS_TOPICS_H

#include "ingest/worker.h"

/* Reads which topics the stream has, if they may be others; before the broker is asked about them. */
extern void ps_topics_update(PsWorker *worker);

/* Takes the names that the broker has, and notes which topics exist. True: there are topics that it was not asked for. */
extern bool ps_topics_take_answer(PsWorker *worker);

/* Whether every topic answered. */
extern bool ps_topics_answered(const PsWorker *worker);

/* A topic that the worker has, NULL: it has none of that number; and its name. */
extern const PsTopic *ps_topics_find(const PsWorker *worker, int32 topic_no);
extern const char *ps_topics_name(const PsWorker *worker, int32 topic_no);

#endif							/* PS_TOPICS_H */

/*
 * score_timer.h
 *	  When scores and segments are refreshed, and segments counted.
 */
#ifndef PS_SCORE_TIMER_H
#define PS_SCORE_TIMER_H

#include "postgres.h"

/* Starts the scorer when a refresh is due, or a count for a new day. */
extern void ps_score_timer(void);

#endif							/* PS_SCORE_TIMER_H */

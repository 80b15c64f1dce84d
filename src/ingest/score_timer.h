/*
 * score_timer.h
 *	  When scores and segments are refreshed.
 */
#ifndef PS_SCORE_TIMER_H
#define PS_SCORE_TIMER_H

#include "postgres.h"

/* Starts the scorer when a refresh is due. */
extern void ps_score_timer(void);

#endif							/* PS_SCORE_TIMER_H */

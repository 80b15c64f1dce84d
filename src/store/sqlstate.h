/*
 * sqlstate.h
 *	  Who is to blame for an error, told by its SQLSTATE: the data, or the system.
 *
 *	  The answer depends on where the error was raised, so there are three questions.
 */
#ifndef PS_SQLSTATE_H
#define PS_SQLSTATE_H

#include "postgres.h"

/* Raised while a batch was written: whether a message of the batch is to blame, so that it becomes a dead letter. */
extern bool ps_sqlstate_blames_message(int sqlerrcode);

/* Raised by a function of a user: whether the system is to blame, so that another attempt may succeed. */
extern bool ps_sqlstate_is_passing(int sqlerrcode);

/* Raised by a refresh outside of users' code: whether the whole refresh ends, and not just the step for one object. */
extern bool ps_sqlstate_ends_refresh(int sqlerrcode);

#endif							/* PS_SQLSTATE_H */

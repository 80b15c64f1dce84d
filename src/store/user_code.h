/*
 * user_code.h
 *	  Code of users while it runs in a process of ours: for a limited time, and
 *	  without what would outlast it or touch what the process works on.
 *
 *	  It is refused: session-level advisory locks, among which are the process's
 *	  own, and writing profiles, chunks, event ids and offsets, which it has in memory.
 */
#ifndef PS_USER_CODE_H
#define PS_USER_CODE_H

#include "postgres.h"

/* Installs what refuses; when the library is loaded. */
extern void ps_user_code_init(void);

/* Whether another extension checks the permissions of statements, too. */
extern bool ps_user_code_others_check(void);

/* Code of a user begins, for at most so many milliseconds, which a setting says; 0: any time. */
extern void ps_user_code_begin(int timeout_ms, const char *setting);

/* It is over, or an error ended it; why it was ended, when it was, as the end of a sentence; of that nothing is left. */
extern const char *ps_user_code_end(void);

/* Whether such code is under way. */
extern bool ps_user_code_is_on(void);

/* In a signal handler: whether it is; then it ends with an error, because it signalled its own process. */
extern bool ps_user_code_signalled_itself(void);

/* Whether this process ends because such code did not end when it was cancelled. */
extern bool ps_user_code_gave_up(void);

#endif							/* PS_USER_CODE_H */

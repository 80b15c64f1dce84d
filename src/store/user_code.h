/*
 * user_code.h
 *	  Restricts code of users while it runs in a process of ours. Its time is limited,
 *	  and two things are refused: advisory locks of the session, because those of the
 *	  process are among them; and writing profiles, chunks, event ids and offsets,
 *	  because the process has their rows in memory.
 */
#ifndef PS_USER_CODE_H
#define PS_USER_CODE_H

#include "postgres.h"

/* Installs the hooks that refuse it, when the library is loaded. */
extern void ps_user_code_init(void);

/* Whether another extension checks the permissions of statements, too. */
extern bool ps_user_code_others_check(void);

/* Code of a user begins. It may take timeout_ms, the value of a setting that errors name; 0: any time. */
extern void ps_user_code_begin(int timeout_ms, const char *setting);

/* The code has ended. Returns why the timer ended it, as the end of a sentence, or NULL; then nothing of it is left. */
extern const char *ps_user_code_end(void);

/* Whether code of a user is running. */
extern bool ps_user_code_is_on(void);

/* For a signal handler: whether such code is running. Then it has signalled its own process, and ends with an error. */
extern bool ps_user_code_signalled_itself(void);

/* Whether this process ends because code of a user did not end when it was cancelled. */
extern bool ps_user_code_gave_up(void);

/*
 * Takes the rights of a role, to call its code, and gives them back. Settings that the
 * code changes are undone.
 */
typedef struct PsRole
{
	Oid			user;
	int			context;
	int			nest_level;
} PsRole;

extern PsRole ps_role_become(Oid role);
extern void ps_role_return(PsRole role);

/* Fixes the settings on which what code means and returns, or a value as text, could depend, until the nest level of settings ends. */
extern void ps_role_fix_settings(void);

#endif							/* PS_USER_CODE_H */

/*
 * function.h
 *	  Functions that users registered, jsonb in and jsonb out: called as their
 *	  owner, with a safe search_path, for a limited time.
 *
 *	  run         calls within one subtransaction, between ps_function_begin() and
 *	              ps_function_end() or the rollback
 *	  own error   one that the function is to blame for, not the system
 */
#ifndef PS_FUNCTION_H
#define PS_FUNCTION_H

#include "core/event_rules.h"
#include "utils/jsonb.h"

typedef struct PsFunctionRun PsFunctionRun;

/* A function of nargs jsonb arguments, as it was registered; what: "handler" or "upcaster". In the current context. */
extern PsFunction *ps_function_make(const char *what, const char *name, Oid owner, bool confirmed, int nargs);

/* What it is and its name, for messages. */
extern const char *ps_function_title(const PsFunction *function);

/* The name by which a function is registered: schema-qualified, with its arguments. */
extern char *ps_function_name(Oid function);

/* The function of such a name, InvalidOid when there is none. */
extern Oid	ps_function_find(const char *name);

/* Raises when it is called by such a function. */
extern void ps_function_refuse_nested(const char *what);

/* The title of the one that is being called, NULL: none is. */
extern const char *ps_function_under_way(void);

extern PsFunctionRun *ps_function_begin(void);
extern void ps_function_end(PsFunctionRun *run);

/* Calls a function within a run; its result, NULL for null, is good until ps_function_forget(). */
extern Jsonb *ps_function_call(PsFunctionRun *run, PsFunction *function, Jsonb *first, Jsonb *second);

/* Memory for what calls take and return, and its release. */
extern MemoryContext ps_function_memory(PsFunctionRun *run);
extern void ps_function_forget(PsFunctionRun *run);

/*
 * To be called first after an error was caught within a run. The function whose call
 * raised it, NULL when none did; *ending says why that was ended, when it was: then it
 * is the function's own error for sure.
 */
extern const PsFunction *ps_function_abort(const char **ending);

#endif							/* PS_FUNCTION_H */

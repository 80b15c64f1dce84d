/*
 * function.h
 *	  Functions that users registered, which return jsonb. They
 *	  are called as their owner, with a safe search_path, for a limited time.
 *
 *	  run         the calls of one subtransaction, between ps_function_begin() and
 *	              ps_function_end() or the rollback
 *	  own error   an error for which the function is to blame, and not the system
 */
#ifndef PS_FUNCTION_H
#define PS_FUNCTION_H

#include "core/event_rules.h"
#include "utils/jsonb.h"

typedef struct PsFunctionRun PsFunctionRun;

typedef enum PsFunctionKind
{
	PS_HANDLER,
	PS_UPCASTER,
	PS_DECODER
} PsFunctionKind;

/* Makes a function in the current context. */
extern PsFunction *ps_function_make(PsFunctionKind kind, const char *name, Oid owner, bool confirmed);

/* The owner of a function; raises when it does not have the form of its kind. */
extern Oid	ps_function_check(PsFunctionKind kind, Oid function);

/* Kind and name of a function, for messages. */
extern const char *ps_function_title(const PsFunction *function);

/* The name by which a function is registered: schema-qualified, with its arguments. */
extern char *ps_function_name(Oid function);

/* The function with such a name; InvalidOid when there is none. */
extern Oid	ps_function_find(const char *name);

/* Raises when it is called within a call of such a function. */
extern void ps_function_refuse_nested(const char *what);

/* The title of the function that is being called; NULL: none is. */
extern const char *ps_function_under_way(void);

extern PsFunctionRun *ps_function_begin(void);
extern void ps_function_end(PsFunctionRun *run);

/* Calls a function within a run. The result, NULL for null, is valid until ps_function_forget(). */
extern Jsonb *ps_function_call(PsFunctionRun *run, PsFunction *function, Jsonb *first, Jsonb *second);

/* The same of any arguments, as many as its kind has. */
extern Jsonb *ps_function_call_args(PsFunctionRun *run, PsFunction *function, const NullableDatum *args);

/* Memory for arguments and results of calls; and its reset. */
extern MemoryContext ps_function_memory(PsFunctionRun *run);
extern void ps_function_forget(PsFunctionRun *run);

/*
 * Must be called first after an error was caught within a run. Returns the function
 * whose call raised it; NULL: none did. *reason tells why we ended the call, else it
 * is NULL. An ended call is always the function's own error.
 */
extern const PsFunction *ps_function_abort(const char **reason);

#endif							/* PS_FUNCTION_H */

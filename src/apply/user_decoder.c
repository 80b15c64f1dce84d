/*
 * user_decoder.c
 *	  Calls the decoder of a stream. Its calls have one subtransaction, and after an
 *	  error the next ones have another. Each is read-only and rolled back, so that the
 *	  result is all that a decoder leaves.
 */
#include "postgres.h"

#include "access/xact.h"
#include "apply/system_failures.h"
#include "apply/user_decoder.h"
#include "apply/user_function.h"
#include "compat.h"
#include "core/jsonb_size.h"
#include "store/dead_letters.h"
#include "store/sqlstate.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

static const PsMessage *decoding = NULL;

const PsMessage *
ps_decoder_calling(void)
{
	return decoding;
}

/* A value as bytea; null where there is none. */
static NullableDatum
bytes_argument(const char *bytes, int len)
{
	NullableDatum argument = {(Datum) 0, bytes == NULL};
	bytea	   *copy;

	if (bytes == NULL)
		return argument;
	copy = palloc(VARHDRSZ + len);
	SET_VARSIZE(copy, VARHDRSZ + len);
	memcpy(VARDATA(copy), bytes, len);
	argument.value = PointerGetDatum(copy);
	return argument;
}

/* Takes the result: an event, an array of them, or null. Returns what is wrong with it, or NULL. */
static const char *
take_result(Jsonb *result, const PsMessage *message, PsDecoded *decoded)
{
	int64		max = ps_jsonb_made_bytes(message->value_len);
	int			n = 1;
	bool		is_array;

	decoded->is_ignored = result == NULL;
	if (result == NULL)
		return NULL;
	is_array = JB_ROOT_IS_ARRAY(result) && !JB_ROOT_IS_SCALAR(result);
	if (is_array)
		n = JB_ROOT_COUNT(result);
	if (n > PS_MAX_DECODED)
		return psprintf("returned %d events, and may return %d of one message", n, PS_MAX_DECODED);
	if (ps_jsonb_is_longer(result, max))
		return psprintf("returned more than " INT64_FORMAT " bytes, which is what one message of %d bytes may become", max, message->value_len);
	decoded->is_ignored = n == 0;
	decoded->values = palloc(Max(n, 1) * sizeof(char *));
	for (int i = 0; i < n; i++)
	{
		Jsonb	   *value = is_array ? JsonbValueToJsonb(getIthJsonbValueFromContainer(&result->root, i)) : result;

		decoded->values[i] = JsonbToCString(NULL, &value->root, VARSIZE(value));
	}
	decoded->nvalues = n;
	return NULL;
}

/* Calls the decoder for one message. The result is in the caller's memory. */
static void
decode_one(PsFunctionRun *run, PsFunction *decoder, const PsMessage *message, PsDecoded *decoded)
{
	MemoryContext caller = MemoryContextSwitchTo(ps_function_memory(run));
	NullableDatum args[3];
	const char *wrong;

	args[0] = bytes_argument(message->value, message->value_len);
	args[1] = bytes_argument(message->key, message->key_len);
	args[2] = (NullableDatum)
	{
		ps_headers_jsonb(message), false
	};
	MemoryContextSwitchTo(caller);
	decoding = message;
	wrong = take_result(ps_function_call_args(run, decoder, args), message, decoded);
	decoding = NULL;
	if (wrong != NULL)
		decoded->refused = psprintf(PS_DECODER_ERROR "%s %s", ps_function_title(decoder), wrong);
	ps_function_forget(run);
}

/* Whether an error of a decoder is the system's: then the worker tries again, as it does for handlers. */
static bool
user_decoder_is_system_error(const PsMessage *message, const ErrorData *error)
{
	static HTAB *known = NULL;
	int64		partition = (int64) message->topic_no << 32 | (uint32) message->partition;

	if (!ps_sqlstate_is_passing(error->sqlerrcode))
		return false;
	return message->partition < 0 || ps_system_failure_may_pass(&known, partition, message->offset, error->sqlerrcode);
}

/* Takes a caught error; whether the call was ended for its time. */
static bool
take_error(PsSubxact outside, const PsMessage *message, PsDecoded *decoded)
{
	const PsFunction *function;
	bool		own;
	ErrorData  *error = ps_subxact_catch(outside, &function, &own);

	if (function == NULL || (!own && user_decoder_is_system_error(message, error)))
		ReThrowError(error);
	memset(decoded, 0, sizeof(PsDecoded));
	decoded->refused = psprintf(PS_DECODER_ERROR "%s", error->message);
	strlcpy(decoded->sqlstate, unpack_sql_state(error->sqlerrcode), sizeof(decoded->sqlstate));
	return own;
}

/* Calls the decoder until one call fails. Returns how many were done; sets *slow if the last one took too long. */
static int
decode_until_error(PsFunction *decoder, const PsMessage *const *messages, PsDecoded *const *results, int n, bool *slow)
{
	PsSubxact	outside = ps_subxact_begin();
	volatile int done = 0;

	XactReadOnly = true;		/* until the end of the subtransaction */
	PG_TRY();
	{
		PsFunctionRun *run = ps_function_begin();

		for (; done < n; done++)
			decode_one(run, decoder, messages[done], results[done]);
		ps_function_end(run);
		ps_subxact_end(outside, false);
	}
	PG_CATCH();
	{
		decoding = NULL;
		*slow = take_error(outside, messages[done], results[done]);
		done++;
	}
	PG_END_TRY();
	return done;
}

int
ps_decoder_run(PsFunction *decoder, const PsMessage *const *messages, PsDecoded *const *results, int n)
{
	int			done = 0;
	bool		slow = false;

	PushActiveSnapshot(GetTransactionSnapshot());
	while (done < n && !slow)
		done += decode_until_error(decoder, messages + done, results + done, n - done, &slow);
	PopActiveSnapshot();
	return done;
}

void
ps_decoded_take(PsMessage *message, const PsDecoded *decoded, int number)
{
	if (number < decoded->nvalues)
	{
		message->decoded = decoded->values[number];
		message->decoded_len = strlen(message->decoded);
	}
	message->refused = decoded->refused;
	strlcpy(message->refused_sqlstate, decoded->sqlstate, sizeof(message->refused_sqlstate));
	message->is_ignored = decoded->is_ignored;
}

/*
 * decoding.c
 *	  Lets the decoder of a stream make events of messages. It runs in a transaction of its
 *	  own, in which nothing that it writes stays, before the one that applies the events.
 *	  That one locks the customers first, and only the decoder tells who they are.
 */
#include "postgres.h"

#include "access/xact.h"
#include "apply/user_decoder.h"
#include "ingest/decoding.h"
#include "ingest/poison.h"
#include "ingest/progress.h"
#include "ingest/transaction.h"

/* Whether the decoder is called: a message without a value or beyond a limit needs none, and a poison message has ended a worker. */
static bool
decoding_is_needed(const PsWorker *worker, const PsMessage *message, int max_bytes, PsDecoded *decoded)
{
	const char *poison = ps_poison_reason(worker, message);

	if (poison != NULL)
		decoded->refused = psprintf("Processing error: %s", poison);
	return poison == NULL && message->value != NULL && message->value_cut == 0 && message->value_len <= max_bytes &&
		message->key_cut == 0 && message->headers_cut == 0;
}

/* Calls the decoder, in one transaction unless a call takes too long: after such a one it looks whether the stream was paused. */
static void
call_decoder(PsWorker *worker, PsFunction *decoder, const PsMessage *const *messages, PsDecoded *const *results, int n)
{
	MemoryContext context = CurrentMemoryContext;

	for (int done = 0; done < n;)
	{
		ps_worker_begin(worker);
		MemoryContextSwitchTo(context);
		done += ps_decoder_run(decoder, messages + done, results + done, n - done);
		CommitTransactionCommand();
		MemoryContextSwitchTo(context);
	}
}

/* Adds an item for each event that was made of a message. */
static int
add_items(PsWorker *worker, const PsApplyItem *item, const PsDecoded *decoded, PsApplyItem *items)
{
	PsParts    *parts = decoded->nvalues > 1 ? ps_progress_share(worker, decoded->nvalues) : NULL;
	int			n = Max(decoded->nvalues, 1);

	for (int i = 0; i < n; i++)
	{
		PsMessage  *message = &items[i].message;

		items[i] = *item;
		items[i].parts = parts;
		ps_decoded_take(message, decoded, i);
	}
	return n;
}

int
ps_decoding_run(PsWorker *worker, PsApplyItem **items, int n, const PsApplySettings *settings)
{
	PsFunction *decoder = ps_rules_decoder(settings->rules, worker->stream->stream_id);
	PsDecoded  *decoded;
	const PsMessage **messages;
	PsDecoded **results;
	PsApplyItem *made;
	int			needed = 0;
	int64		total = 0;
	int			nmade = 0;

	if (decoder == NULL || n == 0)
		return n;
	decoded = palloc0(n * sizeof(PsDecoded));
	messages = palloc(n * sizeof(PsMessage *));
	results = palloc(n * sizeof(PsDecoded *));
	for (int i = 0; i < n; i++)
	{
		if ((*items)[i].outcome == PS_ELSEWHERE ||
			!decoding_is_needed(worker, &(*items)[i].message, settings->max_event_bytes, &decoded[i]))
			continue;
		messages[needed] = &(*items)[i].message;
		results[needed++] = &decoded[i];
	}
	call_decoder(worker, decoder, messages, results, needed);
	for (int i = 0; i < n; i++)
		total += Max(decoded[i].nvalues, 1);
	made = palloc_extended(total * sizeof(PsApplyItem), MCXT_ALLOC_HUGE);
	for (int i = 0; i < n; i++)
		nmade += add_items(worker, &(*items)[i], &decoded[i], made + nmade);
	*items = made;
	return nmade;
}

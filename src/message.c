/*
 * message.c
 *	  Copies a message into one piece of memory, for ingest/waiting, counts messages by
 *	  outcome, and reads keys.
 */
#include "postgres.h"

#include "message.h"

#define NAME(counter, outcome, name) [PS_##outcome] = name,
const char *const ps_outcome_names[PS_OUTCOMES] = {
	[PS_PENDING] = "pending",
	[PS_DEFERRED] = "deferred",
	PS_OUTCOME_COUNTERS(NAME,)
};

#define ADD(counter, ...) counts->counter += more->counter;

void
ps_counts_add(PsCounts *counts, const PsCounts *more)
{
	PS_ALL_COUNTERS(ADD,)
		counts->consumed += more->consumed;
}

const char *
ps_message_key_id(const PsMessage *message, int *len)
{
	const char *key = message->key;
	bool		is_quoted = key != NULL && message->key_len >= 2 && key[0] == '"' && key[message->key_len - 1] == '"';

	*len = message->key_len - (is_quoted ? 2 : 0);
	return is_quoted ? key + 1 : key;
}

bool
ps_message_has_key(const PsMessage *message, const char *customer_id, int len)
{
	int			key_len;
	const char *key = ps_message_key_id(message, &key_len);

	return key != NULL && key_len == len && memcmp(key, customer_id, len) == 0;
}

Size
ps_message_size(const PsMessage *message)
{
	Size		bytes = MAXALIGN(message->nheaders * sizeof(PsHeader)) + message->key_len + message->value_len;

	for (int i = 0; i < message->nheaders; i++)
		bytes += strlen(message->headers[i].name) + 1 + message->headers[i].value_len;
	return bytes;
}

Size
ps_message_space(const PsMessage *message)
{
	return ps_message_size(message) + message->decoded_len + (message->refused != NULL ? strlen(message->refused) + 1 : 0);
}

/* Copies bytes to *place and moves it behind them. */
static const char *
message_copy_bytes(char **place, const char *from, int len)
{
	char	   *start = *place;

	if (from == NULL)
		return NULL;
	memcpy(start, from, len);
	*place += len;
	return start;
}

void
ps_message_copy(PsMessage *copy, char *space, const PsMessage *message)
{
	PsHeader   *header = (PsHeader *) space;
	char	   *place = space + MAXALIGN(message->nheaders * sizeof(PsHeader));

	*copy = *message;
	copy->headers = message->nheaders > 0 ? header : NULL;
	copy->key = message_copy_bytes(&place, message->key, message->key_len);
	copy->value = message_copy_bytes(&place, message->value, message->value_len);
	for (int i = 0; i < message->nheaders; i++)
	{
		const PsHeader *from = &message->headers[i];

		header[i].name = message_copy_bytes(&place, from->name, strlen(from->name) + 1);
		header[i].value = message_copy_bytes(&place, from->value, from->value_len);
		header[i].value_len = from->value_len;
	}
	copy->decoded = message_copy_bytes(&place, message->decoded, message->decoded_len);
	copy->refused = message_copy_bytes(&place, message->refused, message->refused != NULL ? strlen(message->refused) + 1 : 0);
}

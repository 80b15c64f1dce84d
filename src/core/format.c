/*
 * format.c
 *	  The formats that have envelopes, of which custom is all map.
 */
#include "postgres.h"

#include "core/format_read.h"

static PsReject *
read_custom(const PsEnvelope *envelope, const PsMessage *message, PsMembers *members)
{
	PsReading	reading = ps_reading_begin(envelope, message);

	return ps_reading_document(&reading, members);
}

static bool
is_null_value(const PsMessage *message)
{
	return message->value == NULL;
}

static const PsFormat format_custom = {
	.name = "custom",
	.read = read_custom,
	.is_tombstone = is_null_value
};

static const PsFormat *const formats[] = {&format_custom, &ps_format_cloudevents};

const PsFormat *
ps_format_find(const char *name)
{
	for (int i = 0; i < lengthof(formats); i++)
		if (strcmp(formats[i]->name, name) == 0)
			return formats[i];
	return NULL;
}

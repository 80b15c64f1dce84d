/*
 * format.c
 *	  The formats that have envelopes, of which custom is all map.
 */
#include "postgres.h"

#include "core/format_read.h"

static PsReject *
read_custom(const PsFormatMap *format_map, const PsMessage *message, PsMembers *members)
{
	PsFormatReader reading = ps_format_reader_begin(format_map, message);

	return ps_format_reader_document(&reading, members);
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

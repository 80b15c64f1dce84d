/*
 * format.c
 *	  The list of formats, and custom, the one that knows nothing but its field_map.
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

const PsFormat ps_format_custom = {
	.name = "custom",
	.read = read_custom,
	.is_tombstone = is_null_value
};

#define FORMAT(format) &ps_format_##format,

static const PsFormat *const formats[] = {PS_FORMATS(FORMAT)};

const PsFormat *
ps_format_find(const char *name)
{
	for (int i = 0; i < lengthof(formats); i++)
		if (strcmp(formats[i]->name, name) == 0)
			return formats[i];
	return NULL;
}

const char *
ps_format_names(void)
{
	const char *names = "profile_event";

	for (int i = 0; i < lengthof(formats); i++)
		names = psprintf("%s%s%s", names, i + 1 < lengthof(formats) ? ", " : " and ", formats[i]->name);
	return names;
}

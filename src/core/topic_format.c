/*
 * topic_format.c
 *	  Compiles topic_formats of a stream: an object with the options format, field_map and
 *	  timestamp_unit by topic. An option that a topic does not name is the stream's. But a
 *	  field_map belongs to a format, so a topic with a format of its own does not take the
 *	  stream's.
 */
#include "postgres.h"

#include "core/field_map.h"
#include "core/topic_format.h"

#define FORMATS_HINT \
	"It has the form {\"topic\": {\"format\": \"custom\", \"field_map\": {...}, \"timestamp_unit\": \"seconds\"}, ...}."

static void
refuse_formats(const char *message)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("%s", message),
			 errhint(FORMATS_HINT)));
}

/* A string of a topic's options. */
static const char *
option_text(const JsonbValue *value, const char *name, const char *topic)
{
	if (value->type != jbvString)
		refuse_formats(psprintf("topic_formats: %s of \"%s\" is not a string", name, topic));
	return pnstrdup(value->val.string.val, value->val.string.len);
}

/* Reads the options of a topic over those of the stream. */
static PsFormatOptions
read_options(JsonbContainer * container, const char *topic, const PsFormatOptions *options)
{
	PsFormatOptions result = *options;
	JsonbIterator *iterator = JsonbIteratorInit(container);
	JsonbIteratorToken token;
	JsonbValue	value;
	char	   *name = NULL;
	bool		has_map = false;
	bool		has_format = false;

	while ((token = JsonbIteratorNext(&iterator, &value, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
			name = pnstrdup(value.val.string.val, value.val.string.len);
		if (token != WJB_VALUE)
			continue;
		if (strcmp(name, "format") == 0)
		{
			result.format = option_text(&value, name, topic);
			has_format = true;
		}
		else if (strcmp(name, "timestamp_unit") == 0)
			result.timestamp_unit = option_text(&value, name, topic);
		else if (strcmp(name, "field_map") == 0)
		{
			result.field_map = JsonbValueToJsonb(&value);
			has_map = true;
		}
		else
			refuse_formats(psprintf("topic_formats: \"%s\" of \"%s\" is no option of a format", name, topic));
	}
	if (has_format && !has_map)
		result.field_map = NULL;
	return result;
}

int
ps_topic_formats_compile(Jsonb *formats, const PsFormatOptions *options, PsTopicFormat **topics)
{
	JsonbIterator *iterator;
	JsonbIteratorToken token;
	JsonbValue	value;
	char	   *topic = NULL;
	int			n = 0;

	*topics = NULL;
	if (formats == NULL)
		return 0;
	if (!JB_ROOT_IS_OBJECT(formats))
		refuse_formats("topic_formats must be a JSON object");
	*topics = palloc(Max(JB_ROOT_COUNT(formats), 1) * sizeof(PsTopicFormat));
	iterator = JsonbIteratorInit(&formats->root);
	while ((token = JsonbIteratorNext(&iterator, &value, true)) != WJB_DONE)
	{
		PsFormatOptions own;

		if (token == WJB_KEY)
			topic = pnstrdup(value.val.string.val, value.val.string.len);
		if (token != WJB_VALUE)
			continue;
		if (value.type != jbvBinary || !JsonContainerIsObject(value.val.binary.data))
			refuse_formats(psprintf("topic_formats has no object for \"%s\"", topic));
		own = read_options(value.val.binary.data, topic, options);
		(*topics)[n].topic = topic;
		(*topics)[n].format_map = ps_field_map_compile(own.format, own.field_map);
		(*topics)[n++].time_unit = ps_time_unit(own.timestamp_unit);
	}
	return n;
}

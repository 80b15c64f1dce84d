/*
 * topic_format.h
 *	  Formats of single topics of a stream that reads several: topic_formats.
 */
#ifndef PS_TOPIC_FORMAT_H
#define PS_TOPIC_FORMAT_H

#include "core/format.h"
#include "utils/jsonb.h"

/* The format of a topic that has one of its own. */
typedef struct PsTopicFormat
{
	const char *topic;
	PsFormatMap *format_map;	/* NULL: profile_event */
	PsTimeUnit	time_unit;
} PsTopicFormat;

/* What the stream says for its other topics. */
typedef struct PsFormatOptions
{
	const char *format;
	Jsonb	   *field_map;		/* NULL: none */
	const char *timestamp_unit;
} PsFormatOptions;

/*
 * Compiles topic_formats in CurrentMemoryContext, and returns how many topics it has. Raises
 * ERRCODE_INVALID_PARAMETER_VALUE when something is wrong.
 */
extern int	ps_topic_formats_compile(Jsonb *formats, const PsFormatOptions *options, PsTopicFormat **topics);

#endif							/* PS_TOPIC_FORMAT_H */

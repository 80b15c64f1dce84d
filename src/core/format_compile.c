/*
 * format_compile.c
 *	  Compiles sources, given as text, into a PsFormatMap. The fuzzer calls it too,
 *	  outside of a server.
 */
#include "postgres.h"

#include "core/format.h"
#include "core/path.h"

PsFormatMap *
ps_format_map_make(const PsFormat *format)
{
	PsFormatMap *format_map = palloc0(sizeof(PsFormatMap));

	format_map->format = format;
	format_map->nodes[0].parent = -1;
	format_map->nnodes = 1;
	return format_map;
}

/* Finds the child of a node with that key, or adds it; -1 when there are too many nodes. */
static int
find_child(PsFormatMap *format_map, int parent, const char *key)
{
	int			node;

	for (node = parent + 1; node < format_map->nnodes; node++)
		if (format_map->nodes[node].parent == parent && strcmp(format_map->nodes[node].key, key) == 0)
			return node;
	if (node == PS_MAX_NODES)
		return -1;
	format_map->nodes[node].key = key;
	format_map->nodes[node].parent = parent;
	format_map->nodes[parent].nchildren++;
	return format_map->nnodes++;
}

/* Adds the nodes of a path; returns what is wrong with it, or NULL. */
static const char *
add_path(PsFormatMap *format_map, const char *text, int *node)
{
	PsPath		path;
	const char *wrong = ps_path_parse(text, &path);

	if (wrong != NULL)
		return wrong;
	*node = 0;
	for (int i = 0; i < path.nkeys; i++)
	{
		*node = find_child(format_map, *node, path.keys[i]);
		if (*node < 0)
			return psprintf("is one path too many: all together have more than %d keys", PS_MAX_NODES - 1);
	}
	return NULL;
}

/* The text behind a prefix; NULL when source does not begin with it, or ends with it. */
static const char *
format_compile_after(const char *source, const char *prefix)
{
	Size		len = strlen(prefix);

	return strncmp(source, prefix, len) == 0 && source[len] != '\0' ? source + len : NULL;
}

/* Parses a source; returns what is wrong with it, or NULL. */
static const char *
format_compile_read_source(PsFormatMap *format_map, PsMember member, const char *text, PsSource *result)
{
	PsSource	source = {PS_SOURCE_PATH};

	if (text[0] == '$')
	{
		const char *wrong = add_path(format_map, text, &source.node);

		if (wrong != NULL)
			return wrong;
		if (source.node == 0 && member != PS_PAYLOAD)
			return "is the whole value, which only payload can be";
		if (source.node == 0 && format_map->format->has_data)
			return "is the whole value, of which only data is the payload";
	}
	else if (member == PS_PAYLOAD)
		return "is not a path, as that of payload must be";
	else if (strcmp(text, "key") == 0)
		source.kind = PS_SOURCE_KEY;
	else if (strcmp(text, "kafka_timestamp") == 0)
		source.kind = PS_SOURCE_KAFKA_TIMESTAMP;
	else if (strcmp(text, "kafka_position") == 0)
		source.kind = PS_SOURCE_KAFKA_POSITION;
	else if ((source.text = format_compile_after(text, "header:")) !=NULL)
		source.kind = PS_SOURCE_HEADER;
	else if ((source.text = format_compile_after(text, "constant:")) !=NULL)
		source.kind = PS_SOURCE_CONSTANT;
	else
		return "is not a source";
	*result = source;
	return NULL;
}

/* Adds a source to those of a member; returns what is wrong with that, or NULL. */
static const char *
format_compile_add_source(PsFormatMap *format_map, PsMember member, const PsSource *source)
{
	if (format_map->nsources[member] == PS_MAX_SOURCES)
		return psprintf("is one more than the %d that a member may have", PS_MAX_SOURCES);
	format_map->sources[member][format_map->nsources[member]++] = *source;
	return NULL;
}

const char *
ps_format_map_add(PsFormatMap *format_map, PsMember member, const char *text)
{
	PsSource	source;
	const char *wrong = format_compile_read_source(format_map, member, text, &source);

	return wrong != NULL ? wrong : format_compile_add_source(format_map, member, &source);
}

const char *
ps_format_map_add_join(PsFormatMap *format_map, PsMember member, const char *const *parts, int n)
{
	PsSource   *joined = palloc0(Max(n, 1) * sizeof(PsSource));
	PsSource	source = {PS_SOURCE_JOIN,.parts = joined,.nparts = n};

	if (member == PS_TIMESTAMP || member == PS_PAYLOAD || member == PS_SCHEMA_VERSION)
		return "is joined, and only ids, eventType and source can be";
	if (n < 1 || n > PS_MAX_JOINED)
		return psprintf("joins %d sources instead of 1 to %d", n, PS_MAX_JOINED);
	for (int i = 0; i < n; i++)
	{
		const char *wrong = format_compile_read_source(format_map, member, parts[i], &joined[i]);

		if (wrong != NULL)
			return wrong;
	}
	return format_compile_add_source(format_map, member, &source);
}

/* Adds a source of the format itself. */
static void
add_default(PsFormatMap *format_map, const PsDefaultSource *source)
{
	int			n = 0;

	if (source->joined == NULL)
	{
		(void) ps_format_map_add(format_map, source->member, source->source);
		return;
	}
	while (source->joined[n] != NULL)
		n++;
	(void) ps_format_map_add_join(format_map, source->member, source->joined, n);
}

const char *
ps_format_map_set(PsFormatMap *format_map, const char *word)
{
	const PsFormat *format = format_map->format;
	const char *words = "";

	for (int i = 0; format->words[i] != NULL; i++)
	{
		if (strcmp(format->words[i], word) == 0)
		{
			format_map->word = i;
			return NULL;
		}
		words = psprintf("%s%s%s", words, i > 0 ? " or " : "", format->words[i]);
	}
	return psprintf("must be %s", words);
}

void
ps_format_map_add_defaults(PsFormatMap *format_map)
{
	const PsFormat *format = format_map->format;
	bool		named[PS_MEMBERS];

	for (int m = 0; m < PS_MEMBERS; m++)
		named[m] = format_map->nsources[m] > 0;
	for (int i = 0; i < format->ndefaults; i++)
		if (!named[format->defaults[i].member])
			add_default(format_map, &format->defaults[i]);
	for (int i = 0; format->own != NULL && format->own[i] != NULL; i++)
		(void) add_path(format_map, format->own[i], &format_map->own[i]);
}

/*
 * sources.c
 *	  Makes envelopes from sources as text. Called by core/field_map, and by
 *	  the fuzzer outside of a server.
 */
#include "postgres.h"

#include "core/envelope.h"

PsEnvelope *
ps_envelope_make(const PsFormat *format)
{
	PsEnvelope *envelope = palloc0(sizeof(PsEnvelope));

	envelope->format = format;
	envelope->nodes[0].parent = -1;
	envelope->nnodes = 1;
	return envelope;
}

/* Finds a key below a node, or adds it. */
static int
find_child(PsEnvelope *envelope, int parent, const char *key)
{
	int			node;

	for (node = parent + 1; node < envelope->nnodes; node++)
		if (envelope->nodes[node].parent == parent && strcmp(envelope->nodes[node].key, key) == 0)
			return node;
	Assert(node < PS_MAX_NODES);
	envelope->nodes[node].key = key;
	envelope->nodes[node].parent = parent;
	envelope->nodes[parent].nchildren++;
	return envelope->nnodes++;
}

/* Takes a key as jsonpath writes it, quoted or not, from *at, which moves on; NULL when there is none. */
static char *
take_key(const char **at)
{
	const char *c = *at;
	char	   *key = palloc(strlen(c) + 1);
	int			len = 0;

	if (*c == '"')
	{
		for (c++; *c != '\0' && *c != '"'; c++)
		{
			if (*c == '\\' && *++c != '"' && *c != '\\')
				return NULL;
			key[len++] = *c;
		}
		if (*c++ != '"')
			return NULL;
	}
	else
	{
		while ((*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') || *c == '_' || IS_HIGHBIT_SET(*c) ||
			   (*c >= '0' && *c <= '9' && len > 0))
			key[len++] = *c++;
		if (len == 0)
			return NULL;
	}
	key[len] = '\0';
	*at = c;
	return key;
}

/* Adds the nodes of a path; what is wrong with it, or NULL. */
static const char *
add_path(PsEnvelope *envelope, const char *path, int *node)
{
	const char *c = path + 1;
	char	   *keys[PS_MAX_PATH_KEYS];
	int			nkeys = 0;

	while (*c == '.')
	{
		char	   *key;

		c++;
		if (nkeys == PS_MAX_PATH_KEYS)
			return psprintf("has more than %d keys", PS_MAX_PATH_KEYS);
		key = take_key(&c);
		if (key == NULL)
			return "is not a path of keys";
		keys[nkeys++] = key;
	}
	if (*c != '\0')
		return "is not a path of keys";
	*node = 0;
	for (int i = 0; i < nkeys; i++)
		*node = find_child(envelope, *node, keys[i]);
	return NULL;
}

/* The text after a prefix, NULL when there is none. */
static const char *
after(const char *source, const char *prefix)
{
	Size		len = strlen(prefix);

	return strncmp(source, prefix, len) == 0 && source[len] != '\0' ? source + len : NULL;
}

const char *
ps_envelope_add(PsEnvelope *envelope, PsMember member, const char *text)
{
	PsSource	source = {PS_SOURCE_PATH};

	if (envelope->nsources[member] == PS_MAX_SOURCES)
		return psprintf("is one more than the %d that a member may have", PS_MAX_SOURCES);
	if (text[0] == '$')
	{
		const char *wrong = add_path(envelope, text, &source.node);

		if (wrong != NULL)
			return wrong;
		if (source.node == 0 && member != PS_PAYLOAD)
			return "is the whole value, which only payload can be";
		if (source.node == 0 && envelope->format->ndefaults > 0)
			return "is the whole value, of which only data is the payload";
	}
	else if (member == PS_PAYLOAD)
		return "is not a path, as that of payload must be";
	else if (strcmp(text, "key") == 0)
		source.kind = PS_SOURCE_KEY;
	else if (strcmp(text, "kafka_timestamp") == 0)
		source.kind = PS_SOURCE_KAFKA_TIMESTAMP;
	else if ((source.text = after(text, "header:")) !=NULL)
		source.kind = PS_SOURCE_HEADER;
	else if ((source.text = after(text, "constant:")) !=NULL)
		source.kind = PS_SOURCE_CONSTANT;
	else
		return "is not a source";
	envelope->sources[member][envelope->nsources[member]++] = source;
	return NULL;
}

void
ps_envelope_add_defaults(PsEnvelope *envelope)
{
	const PsFormat *format = envelope->format;
	bool		named[PS_MEMBERS];

	for (int m = 0; m < PS_MEMBERS; m++)
		named[m] = envelope->nsources[m] > 0;
	for (int i = 0; i < format->ndefaults; i++)
		if (!named[format->defaults[i].member])
			(void) ps_envelope_add(envelope, format->defaults[i].member, format->defaults[i].source);
	if (format->also != NULL)
		(void) add_path(envelope, format->also, &envelope->also);
}

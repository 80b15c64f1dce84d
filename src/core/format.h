/*
 * format.h
 *	  Formats: where a message has the members of an event.
 *
 *	  The read function of a format gets a whole message (value, key, headers, Kafka
 *	  timestamp) and fills the members. Validation and everything behind it know no
 *	  formats. A stream's format and field_map are compiled once into a PsFormatMap.
 *	  No message makes these functions raise an ERROR.
 *
 *	  source      where a member comes from: a path in the value, the key, a header,
 *	              the Kafka timestamp or position, a constant, or several of them joined
 *	  path        keys from the root of the value: $.data.id
 *	  node        a key of a path; all paths of a map make a tree, so that the value
 *	              is read once
 */
#ifndef PS_FORMAT_H
#define PS_FORMAT_H

#include "core/path.h"
#include "message.h"

#define PS_MAX_SOURCES 8		/* of one member */
#define PS_MAX_JOINED 4			/* in one source */
#define PS_MAX_NODES (1 + (PS_MEMBERS + 1) * PS_MAX_SOURCES * PS_MAX_PATH_KEYS)
#define PS_OWN_NODES 48			/* nodes that a field_map leaves for the sources of the format itself */
#define PS_MAX_OWN 32			/* paths that a format needs although no member has them */

typedef enum PsMember
{
	PS_EVENT_ID,
	PS_CUSTOMER_ID,
	PS_EVENT_TYPE,
	PS_TIMESTAMP,
	PS_PAYLOAD,
	PS_SOURCE,
	PS_SCHEMA_VERSION
} PsMember;

#define PS_MEMBERS 7

/* What was found in a message, before it is validated. */
typedef struct PsMembers
{
	PsField		member[PS_MEMBERS];
	PsField    *fields;			/* of the payload, when it is an object */
	int			nfields;
	const char *error;			/* an error that concerns no member; NULL: none */
	bool		is_milliseconds;	/* timestamp is in milliseconds, whatever timestamp_unit says */
	bool		is_ignored;		/* the message is none that makes an event, and counts as a tombstone */
} PsMembers;

typedef struct PsDefaultSource
{
	PsMember	member;
	const char *source;
	const char *const *joined;	/* used instead of source: the sources that are joined, ended by NULL */
} PsDefaultSource;

typedef struct PsFormat
{
	const char *name;

	/* Fills members, which are all null before. Returns NULL, or why reading ended before all of them were filled. */
	PsReject   *(*read) (const PsFormatMap *format_map, const PsMessage *message, PsMembers *members);
	bool		(*is_tombstone) (const PsMessage *message);
	const PsDefaultSource *defaults;	/* sources of members that the field_map does not name */
	int			ndefaults;
	const char *const *own;		/* paths that the format needs although no member has them, ended by NULL; NULL: none */
	bool		has_data;		/* the payload is a part of the value, never all of it */
	const char *option;			/* name of the format's only option, a key of the field_map; NULL: none */
	const char *const *words;	/* of the option, ended by NULL; the first is the default */
} PsFormat;

typedef enum PsSourceKind
{
	PS_SOURCE_PATH,
	PS_SOURCE_KEY,
	PS_SOURCE_HEADER,
	PS_SOURCE_KAFKA_TIMESTAMP,
	PS_SOURCE_KAFKA_POSITION,
	PS_SOURCE_CONSTANT,
	PS_SOURCE_JOIN
} PsSourceKind;

typedef struct PsSource
{
	PsSourceKind kind;
	int			node;			/* where its path ends */
	const char *text;			/* name of the header, or the constant */
	const struct PsSource *parts;	/* the joined sources */
	int			nparts;
} PsSource;

typedef struct PsNode
{
	const char *key;
	int			parent;			/* index of its parent, which precedes it; -1: it is the root */
	int			nchildren;
} PsNode;

struct PsFormatMap
{
	const PsFormat *format;
	PsSource	sources[PS_MEMBERS][PS_MAX_SOURCES];	/* the first one whose value is not missing counts */
	int			nsources[PS_MEMBERS];
	int			own[PS_MAX_OWN];	/* nodes of the format's own paths */
	int			word;			/* which word the format's option has */
	int			nnodes;
	PsNode		nodes[PS_MAX_NODES];
};

/* event.c */
extern const char *ps_member_name(PsMember member);

/* Reads the members of a message in the format of the settings; returns NULL, or why it cannot be read. */
extern PsReject *ps_members_read(const PsMessage *message, const PsDecodeSettings *settings, PsMembers *members);

/* Whether a member counts as missing: it is null, an empty string, zero or false. */
extern bool ps_member_is_missing(const PsField *field);

/* Makes the reject for a value that is not a JSON object. */
extern PsReject *ps_reject_value(const char *value, int len, const char *reason);

/* "Unsupported <what> <value>" */
extern const char *ps_unsupported(const char *what, const PsField *field);

/* Every format but profile_event. Each is a variable, as ps_format_cloudevents; that of custom is in format.c, others have a file of their own. */
#define PS_FORMATS(X) \
	X(cloudevents) \
	X(custom) \
	X(debezium)

#define PS_FORMAT_DECLARE(format) extern const PsFormat ps_format_##format;
PS_FORMATS(PS_FORMAT_DECLARE)

/* format.c; NULL: no such format, or profile_event */
extern const PsFormat *ps_format_find(const char *name);

/* The names of all formats, for a hint. */
extern const char *ps_format_names(void);

/* format_compile.c: makes a map without sources */
extern PsFormatMap *ps_format_map_make(const PsFormat *format);

/* Adds a source of a member; returns what is wrong with it, or NULL. */
extern const char *ps_format_map_add(PsFormatMap *format_map, PsMember member, const char *source);

/*
 * Adds a source that joins n others with |. Within a part, | and \ get a \ before
 * them, so that two different lists of parts never make the same text.
 */
extern const char *ps_format_map_add_join(PsFormatMap *format_map, PsMember member, const char *const *parts, int n);

/* Sets the format's option, if it has one of that name; returns what is wrong with the word, or NULL. */
extern const char *ps_format_map_set(PsFormatMap *format_map, const char *word);

/* Adds the format's own sources for members that have none. */
extern void ps_format_map_add_defaults(PsFormatMap *format_map);

#endif							/* PS_FORMAT_H */

/*
 * format.h
 *	  Formats: where in a message the members of an event are.
 *
 *	  A format has one function, which takes a whole message (value, key, headers,
 *	  Kafka timestamp) and fills the members; validation and everything after it
 *	  do not know formats. An envelope is a format with the sources of each member,
 *	  compiled once for a stream. Nothing here raises for what a message holds.
 *
 *	  source      a path in the value, the key, a header, the Kafka timestamp, a constant, or several joined
 *	  path        keys from the root of the value: $.data.id
 *	  node        a key of a path; all paths of an envelope make a tree, whose root is the value
 */
#ifndef PS_FORMAT_H
#define PS_FORMAT_H

#include "core/path.h"
#include "message.h"

#define PS_MAX_SOURCES 8		/* of one member */
#define PS_MAX_JOINED 4			/* in one source */
#define PS_MAX_NODES (1 + (PS_MEMBERS + 1) * PS_MAX_SOURCES * PS_MAX_PATH_KEYS)
#define PS_OWN_NODES 16			/* of them for what formats add */

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
	const char *error;			/* what is wrong beside the members, NULL: nothing */
	bool		is_kafka_time;	/* timestamp is the message's, in milliseconds whatever others are in */
} PsMembers;

typedef struct PsDefaultSource
{
	PsMember	member;
	const char *source;
	const char *const *joined;	/* instead of source: what is joined, up to a NULL */
} PsDefaultSource;

typedef struct PsFormat
{
	const char *name;

	/*
	 * Fills members, which are all null before, and returns NULL; or returns why they are no more than what was read
	 * so far.
	 */
	PsReject   *(*read) (const PsFormatMap *format_map, const PsMessage *message, PsMembers *members);
	bool		(*is_tombstone) (const PsMessage *message);
	const PsDefaultSource *defaults;	/* of members that the map does not name */
	int			ndefaults;
	const char *also;			/* a path beside those of members; NULL: none */
} PsFormat;

typedef enum PsSourceKind
{
	PS_SOURCE_PATH,
	PS_SOURCE_KEY,
	PS_SOURCE_HEADER,
	PS_SOURCE_KAFKA_TIMESTAMP,
	PS_SOURCE_CONSTANT,
	PS_SOURCE_JOIN
} PsSourceKind;

typedef struct PsSource
{
	PsSourceKind kind;
	int			node;			/* of a path */
	const char *text;			/* the header's name, or the constant */
	const struct PsSource *parts;	/* that are joined */
	int			nparts;
} PsSource;

typedef struct PsNode
{
	const char *key;
	int			parent;			/* before it in the array; -1: the root */
	int			nchildren;
} PsNode;

struct PsFormatMap
{
	const PsFormat *format;
	PsSource	sources[PS_MEMBERS][PS_MAX_SOURCES];	/* the first that is not missing counts */
	int			nsources[PS_MEMBERS];
	int			also;			/* node of the format's own path */
	int			nnodes;
	PsNode		nodes[PS_MAX_NODES];
};

/* event.c */
extern const char *ps_member_name(PsMember member);

/* Reads a message in the format that the settings name; NULL, or why nothing can be read. */
extern PsReject *ps_members_read(const PsMessage *message, const PsDecodeSettings *settings, PsMembers *members);

/* Whether a member has no value: null, an empty string, zero, false. */
extern bool ps_member_is_missing(const PsField *field);

/* The rejection of a value that is not a JSON object. */
extern PsReject *ps_reject_value(const char *value, int len, const char *reason);

/* "Unsupported <what> <value>" */
extern const char *ps_unsupported(const char *what, const PsField *field);

/* format.c; NULL: no such format, or profile_event */
extern const PsFormat *ps_format_find(const char *name);

/* cloudevents.c */
extern const PsFormat ps_format_cloudevents;

/* format_compile.c: an envelope without sources; adds one, or returns what is wrong with it; adds the format's defaults */
extern PsFormatMap *ps_format_map_make(const PsFormat *format);
extern const char *ps_format_map_add(PsFormatMap *format_map, PsMember member, const char *source);

/* The same of a source that joins n others, each with \ before | and \, by |: no two lists of parts make one text. */
extern const char *ps_format_map_add_join(PsFormatMap *format_map, PsMember member, const char *const *parts, int n);
extern void ps_format_map_add_defaults(PsFormatMap *format_map);

#endif							/* PS_FORMAT_H */

/*
 * format_read.h
 *	  What formats with a PsFormatMap share: they read the nodes of the map from the
 *	  value, key or headers, and then set each member from its sources.
 */
#ifndef PS_FORMAT_READ_H
#define PS_FORMAT_READ_H

#include "core/format.h"
#include "message.h"

/* What was read of a message so far. */
typedef struct PsFormatReader
{
	const PsFormatMap *format_map;
	const PsMessage *message;
	PsField    *nodes;			/* value at each node; null when there is none */
	int			expanded;		/* node of which fields are the members; -1: none */
	PsField    *fields;
	int			nfields;
} PsFormatReader;

extern PsFormatReader ps_format_reader_begin(const PsFormatMap *format_map, const PsMessage *message);

/* Parses the text at a node and sets the nodes below it. Returns NULL, or why the text is not an object. */
extern const char *ps_format_reader_below(PsFormatReader *reading, int node, const char *text, int len);

/* Sets all members from the nodes. Returns a reject when there is a reason why the value could not be read. */
extern PsReject *ps_format_reader_members(PsFormatReader *reading, PsMembers *members, const char *reason);

/* Parses the value as the root of all paths, and sets all members. */
extern PsReject *ps_format_reader_document(PsFormatReader *reading, PsMembers *members);

/* The last header whose name is prefix and name, or NULL. */
extern const PsHeader *ps_find_header(const PsMessage *message, const char *prefix, const char *name);

/* Where the message is in its topic: partition and offset, and behind them the epoch of a topic that was created anew. */
extern const char *ps_format_position(const PsMessage *message);

/* Sets a field to bytes of a key or header: a string, or an empty array when they are not text, so that validation refuses it. */
extern void ps_member_set_bytes(PsField *field, const char *bytes, int len);

#endif							/* PS_FORMAT_READ_H */

/*
 * format_read.h
 *	  What formats with envelopes share: paths into JSON, the bytes beside the
 *	  value, and members made of what the sources hold.
 */
#ifndef PS_FORMAT_READ_H
#define PS_FORMAT_READ_H

#include "core/format.h"
#include "message.h"

/* What is known of a message while it is read. */
typedef struct PsFormatReader
{
	const PsFormatMap *format_map;
	const PsMessage *message;
	PsField    *nodes;			/* what is at each node; null when nothing is */
	int			expanded;		/* node whose fields these are; -1: none */
	PsField    *fields;
	int			nfields;
} PsFormatReader;

extern PsFormatReader ps_format_reader_begin(const PsFormatMap *format_map, const PsMessage *message);

/* Reads what is below a node, whose text is an object; the reason when it is none. */
extern const char *ps_format_reader_below(PsFormatReader *reading, int node, const char *text, int len);

/* Sets all members from what was read, and rejects the message if the value cannot be for that reason (NULL: it can). */
extern PsReject *ps_format_reader_members(PsFormatReader *reading, PsMembers *members, const char *reason);

/* Reads the value as a document in which the paths begin, and sets all members. */
extern PsReject *ps_format_reader_document(PsFormatReader *reading, PsMembers *members);

/* The last header of that name after a prefix, or NULL. */
extern const PsHeader *ps_find_header(const PsMessage *message, const char *prefix, const char *name);

/* Sets bytes from beside the value as a string, or as something that is none when they are no text. */
extern void ps_member_set_bytes(PsField *field, const char *bytes, int len);

#endif							/* PS_FORMAT_READ_H */

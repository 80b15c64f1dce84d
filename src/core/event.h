/*
 * event.h
 *	  A customer event: decoding and validation of one message.
 *
 *	  The functions are pure: they use no SPI, no Kafka, no setting and no clock, and
 *	  no bytes make them raise an ERROR. Results live in CurrentMemoryContext, or are
 *	  part of the message.
 */
#ifndef PS_EVENT_H
#define PS_EVENT_H

#include "core/text_set.h"
#include "core/timestamp.h"
#include "message.h"

typedef enum PsJsonType
{
	PS_JSON_NULL,
	PS_JSON_BOOLEAN,
	PS_JSON_NUMBER,
	PS_JSON_STRING,
	PS_JSON_OBJECT,
	PS_JSON_ARRAY
} PsJsonType;

/* A member of a JSON object; of several with the same name the last one. */
typedef struct PsField
{
	const char *name;			/* null-terminated */
	PsJsonType	type;
	const char *text;			/* a string without escapes, or the literal of a number or boolean, null-terminated;
								 * the raw JSON of an object or array, not terminated */
	int			len;
} PsField;

typedef struct PsEvent
{
	const char *event_id;		/* null-terminated, at most PS_MAX_ID_BYTES */
	const char *customer_id;
	const char *event_type;
	int64		customer_key;	/* hash of the customer id, ps_lock_key() */
	int			event_id_len;
	int			customer_id_len;
	int			event_type_len;
	TimestampTz timestamp;
	const char *source;			/* NULL when absent or not a string */
	int			schema_version;
	bool		is_ignored;		/* the message makes no event: only the customer may be set */
	bool		is_other_type;	/* it is ignored, because the settings do not take its type */
	bool		outdated;		/* upcasters must convert the payload before handlers read it */
	PsField    *fields;			/* members of the payload */
	int			nfields;
	const char *payload;		/* the payload's raw JSON, NULL when absent */
	int			payload_len;
} PsEvent;

/* Why a message is not applied. Its kind is "malformed", "invalid" or "handler". */
typedef struct PsReject
{
	const char *kind;
	const char **errors;
	int			nerrors;
	const char *sqlstate;		/* of an error that PostgreSQL raised; else NULL */
} PsReject;

/* What users registered for event types: core/event_rules.h */
typedef struct PsRules PsRules;

/* A format other than profile_event, with the sources of its members: core/format.h */
typedef struct PsFormatMap PsFormatMap;

typedef struct PsDecodeSettings
{
	TimestampTz now;
	int64		max_clock_skew_us;
	int			max_event_bytes;
	const PsFormatMap *format_map;	/* NULL: profile_event */
	const PsRules *rules;		/* tell which schemaVersions are supported; NULL: there are none */
	PsTimeUnit	time_unit;		/* unit of timestamps that are numbers */
	const PsTextSet *event_types;	/* that are taken; NULL: all */
	bool		accept_unknown_schema;	/* an event whose schemaVersion no upcaster takes is applied as it is */
} PsDecodeSettings;

/*
 * Decodes a message that is not a tombstone into *event. Returns NULL, or why it is
 * not an event; then only customer_id, its length and what makes it ignored are set, and
 * customer_id is NULL when the message does not tell it.
 */
extern PsReject *ps_event_decode(const PsMessage *message, const PsDecodeSettings *settings, PsEvent *event);
extern bool ps_event_is_tombstone(const PsMessage *message, const PsFormatMap *format_map);

/*
 * Room for a copy of an event whose message has a copy as well; and the copy, which
 * goes to space and points to the copied message. The room is aligned.
 */
extern Size ps_event_space(const PsEvent *event, const PsMessage *message);
extern PsEvent *ps_event_copy(char *space, const PsEvent *event, const PsMessage *message, const PsMessage *copied_message);

extern PsReject *ps_reject_make(const char *kind, const char *error);

/* The member of the payload with that name, or NULL. */
extern const PsField *ps_event_field(const PsEvent *event, const char *name);

#endif							/* PS_EVENT_H */

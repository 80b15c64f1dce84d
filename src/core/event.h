/*
 * event.h
 *	  A customer event: decoding and validation of one message.
 *
 *	  Pure: no SPI, no Kafka, no GUC, no clock; never raises an ERROR for what
 *	  the bytes hold. Everything returned lives in CurrentMemoryContext or in
 *	  the message itself.
 */
#ifndef PS_EVENT_H
#define PS_EVENT_H

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

/* One top-level member of the payload; of a repeated key the last one. */
typedef struct PsField
{
	const char *name;			/* null-terminated */
	PsJsonType	type;
	const char *text;			/* de-escaped string, literal text of a number or boolean; raw JSON of an object or
								 * array; null-terminated, except for raw JSON */
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
	bool		outdated;		/* of a version that its type's upcasters have to raise */
	PsField    *fields;			/* of the payload */
	int			nfields;
	const char *payload;		/* the payload's raw JSON, NULL when absent */
	int			payload_len;
} PsEvent;

/* Why a message is not an event. kind: "malformed", "invalid", "handler". */
typedef struct PsReject
{
	const char *kind;
	const char **errors;
	int			nerrors;
	const char *sqlstate;		/* NULL unless PostgreSQL raised it */
} PsReject;

/* What is registered for event types: core/event_rules.h */
typedef struct PsRules PsRules;

/* A format that is not profile_event, and where it has what: core/format.h */
typedef struct PsFormatMap PsFormatMap;

typedef struct PsDecodeSettings
{
	TimestampTz now;
	int64		max_clock_skew_us;
	int			max_event_bytes;
	const PsFormatMap *format_map;	/* NULL: profile_event */
	const PsRules *rules;		/* of which the upcasters matter; NULL: none */
	PsTimeUnit	time_unit;		/* of timestamps that are numbers */
} PsDecodeSettings;

/*
 * Decodes a message that is no tombstone into *event and returns NULL, or returns
 * why it cannot. Then event says nothing but whose it would be, as far as it was
 * read: customer_id with its length, NULL when that cannot be told.
 */
extern PsReject *ps_event_decode(const PsMessage *message, const PsDecodeSettings *settings, PsEvent *event);
extern bool ps_event_is_tombstone(const PsMessage *message, const PsFormatMap *format_map);

extern PsReject *ps_reject_make(const char *kind, const char *error);

/* The payload's member of that name, or NULL. */
extern const PsField *ps_event_field(const PsEvent *event, const char *name);

#endif							/* PS_EVENT_H */

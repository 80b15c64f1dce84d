/*
 * stream.h
 *	  A stream as it was created. Each of its options is one row of PS_STREAM_OPTIONS, and
 *	  each sink one row of PS_SINKS: arguments, checks, statements and processes follow
 *	  from these rows.
 */
#ifndef PS_STREAM_H
#define PS_STREAM_H

#include "postgres.h"

#include "core/text_set.h"
#include "datatype/timestamp.h"
#include "message.h"
#include "store/state_log.h"
#include "utils/jsonb.h"

#define PS_MAX_WORKERS 64		/* of a stream */
#define PS_MAX_OPTION_TEXTS 1000	/* elements of an option that is an array of texts */
#define PS_MAX_SEGMENT_PREFIX (NAMEDATALEN - 1 - 16)	/* bytes; the rest of a channel's name is for a hash */

/* What a sink delivers. */
typedef enum PsSinkContent
{
	PS_DELIVERS_PROFILES,
	PS_DELIVERS_CHANGES,		/* profiles, with the types of the events that changed them */
	PS_DELIVERS_DEAD_LETTERS
} PsSinkContent;

/* Whether the client library of the Redis sink was there at build time. */
#ifdef PS_HIREDIS
#define PS_HAS_HIREDIS true
#else
#define PS_HAS_HIREDIS false
#endif

/*
 * The sinks: symbol, name, option that names the target, content, functions that check the
 * target and make the sink (sink/sink.h), and whether this build has it. The view
 * stream_sinks has the same names, options and contents. The order gives each relay its
 * number.
 */
#define PS_SINKS(SINK) \
	SINK(PS_SINK_REDIS, "redis", "redis", PS_DELIVERS_PROFILES, ps_redis_sink_check, ps_redis_sink_create, PS_HAS_HIREDIS) \
	SINK(PS_SINK_CHANGELOG, "changelog", "changelog_topic", PS_DELIVERS_CHANGES, ps_topic_sink_check, ps_changelog_sink_create, true) \
	SINK(PS_SINK_DEAD_LETTERS, "dead_letters", "dead_letter_topic", PS_DELIVERS_DEAD_LETTERS, ps_topic_sink_check, ps_dead_letters_sink_create, true)

#define PS_SINK_SYMBOL(symbol, name, option, content, check, create, built) symbol,

typedef enum PsSinkKind
{
	PS_SINKS(PS_SINK_SYMBOL)
	PS_SINK_KINDS
} PsSinkKind;

/* What the store knows of a sink. */
typedef struct PsSinkRow
{
	const char *name;
	const char *option;			/* that names the target */
	PsSinkContent content;
} PsSinkRow;

extern const PsSinkRow ps_sinks[PS_SINK_KINDS];


typedef struct PsStream
{
	int			stream_id;
	char	   *name;
	Oid			owner;			/* may be gone */
	char	   *server;			/* NULL: bootstrap_servers is set */
	char	   *bootstrap_servers;
	char	   *topic;			/* the only one; NULL: topics and topic_pattern say which */
	PsTextSet	topics;
	char	   *topic_pattern;	/* NULL: none */
	Jsonb	   *topic_formats;	/* formats of single topics; NULL: none */
	char	   *group_id;
	char	   *start_from;
	int			batch_size;
	int64		batch_wait_ms;
	int64		dedupe_retention_us;
	int64		reorder_wait_us;	/* 0: events are not held */
	int			reorder_buffer_size;
	int64		late_tolerance_us;	/* -1: no event is late */
	char	   *late_policy;
	char	   *unknown_schema;
	PsTextSet	event_types;	/* that are taken; empty: all */
	char	   *on_offset_lost;
	char	   *notify_channel; /* NULL: the database's */
	char	   *channel;		/* which of them it is */
	char	   *notify;
	char	   *segment_channel_prefix; /* NULL: no channels of segments */
	PsTextSet	watch;			/* names of which one must change for the change to be told; none: all changes are */
	Jsonb	   *options;
	int			workers;
	int32	   *partitions;		/* to read */
	int			npartitions;	/* 0: all */
	double		dead_letter_pause_ratio;	/* of a minute's messages; 1: never */
	int64		customer_lock_timeout_ms;	/* a customer whose lock takes longer is deferred */
	char	   *sinks[PS_SINK_KINDS];	/* targets: host:port, socket or server of a Redis; topics; NULL: no such sink */
	char	   *redis_prefix;
	int64		redis_ttl_s;
	char	   *format;
	Jsonb	   *field_map;		/* NULL: none */
	char	   *timestamp_unit; /* of ps_time_units */
	char	   *message_key;	/* any, or customer: the key of a message is its customer's id */
	char	   *partitioner;	/* any, or citus: a partition has the customers of the shard of its number */
	char	   *event_id_scope; /* customer: ids are shared with other streams; stream: they are its own */
	struct PsFormatMap *format_map; /* of format and map, once a worker has compiled it */
	int			time_unit;		/* PsTimeUnit, likewise */
	struct PsTopicFormat *own_formats;	/* of topic_formats, likewise */
	int			nown_formats;
	bool		enabled;		/* in this database, where it is confirmed */
	PsStreamState state;		/* as last said; PS_STATE_NONE: a restored one */
	char	   *error;
	char	   *cluster;		/* that it belongs to; NULL: to any */
} PsStream;

/* How an option is passed, kept and stored. */
typedef enum PsOptionKind
{
	PS_TEXT_OPTION,				/* char * */
	PS_NAME_OPTION,				/* char *, and name in SQL */
	PS_INT_OPTION,				/* int */
	PS_RATIO_OPTION,			/* double, more than 0 and at most 1 */
	PS_INTERVAL_OPTION,			/* int64, in units; -1 for null */
	PS_JSONB_OPTION,			/* Jsonb * */
	PS_TEXTS_OPTION,			/* PsTextSet; empty for null */
	PS_PARTITIONS_OPTION		/* partitions and npartitions */
} PsOptionKind;

#define PS_MAX_OPTION_WORDS 4

typedef struct PsStreamOption
{
	const char *name;			/* of the column, and of the argument of create_stream() and alter_stream() */
	PsOptionKind kind;
	size_t		offset;			/* of the field in PsStream */
	bool		fixed;			/* alter_stream() does not change it */
	bool		nullable;
	bool		removable;		/* nullable, and alter_stream() takes it away with an empty value */
	int64		min;			/* of a text, or each of several, in bytes, of an interval in microseconds */
	int64		max;			/* 0: there is none */
	int64		unit;			/* of an interval: microseconds */
	const char *words[PS_MAX_OPTION_WORDS]; /* the only texts that are allowed, if there is one */
} PsStreamOption;

#define PS_FIELD(field) offsetof(PsStream, field)

/* One row makes an option, beside its field above and its column and arguments in the SQL script. */
#define PS_STREAM_OPTIONS \
	{"name", PS_TEXT_OPTION, PS_FIELD(name), .fixed = true, .min = 1, .max = NAMEDATALEN - 1}, \
	{"server", PS_NAME_OPTION, PS_FIELD(server), .nullable = true}, \
	{"bootstrap_servers", PS_TEXT_OPTION, PS_FIELD(bootstrap_servers), .nullable = true}, \
	{"topic", PS_TEXT_OPTION, PS_FIELD(topic), .nullable = true, .min = 1, .max = PS_MAX_TOPIC_BYTES}, \
	{"topics", PS_TEXTS_OPTION, PS_FIELD(topics), .removable = true, .min = 1, .max = PS_MAX_TOPIC_BYTES}, \
	{"topic_pattern", PS_TEXT_OPTION, PS_FIELD(topic_pattern), .removable = true, .min = 1, .max = 1000}, \
	{"topic_formats", PS_JSONB_OPTION, PS_FIELD(topic_formats), .removable = true}, \
	{"group_id", PS_TEXT_OPTION, PS_FIELD(group_id), .min = 1}, \
	{"start_from", PS_TEXT_OPTION, PS_FIELD(start_from), .fixed = true}, \
	{"batch_size", PS_INT_OPTION, PS_FIELD(batch_size), .min = 1, .max = 100000}, \
	{"batch_wait", PS_INTERVAL_OPTION, PS_FIELD(batch_wait_ms), .max = USECS_PER_MINUTE, .unit = 1000}, \
	{"dedupe_retention", PS_INTERVAL_OPTION, PS_FIELD(dedupe_retention_us), .unit = 1}, \
	{"on_offset_lost", PS_TEXT_OPTION, PS_FIELD(on_offset_lost), .words = {"stop", "earliest", "latest"}}, \
	{"notify_channel", PS_TEXT_OPTION, PS_FIELD(notify_channel), .removable = true, .min = 1, .max = NAMEDATALEN - 1}, \
	{"notify", PS_TEXT_OPTION, PS_FIELD(notify), .words = {"customer", "batch", "off"}}, \
	{"options", PS_JSONB_OPTION, PS_FIELD(options)}, \
	{"reorder_wait", PS_INTERVAL_OPTION, PS_FIELD(reorder_wait_us), .nullable = true, .max = USECS_PER_DAY, .unit = 1}, \
	{"reorder_buffer_size", PS_INT_OPTION, PS_FIELD(reorder_buffer_size), .nullable = true, .min = 2}, \
	{"late_tolerance", PS_INTERVAL_OPTION, PS_FIELD(late_tolerance_us), .nullable = true, .unit = 1}, \
	{"late_policy", PS_TEXT_OPTION, PS_FIELD(late_policy), .nullable = true, .words = {"dead_letter", "apply", "drop"}}, \
	{"unknown_schema", PS_TEXT_OPTION, PS_FIELD(unknown_schema), .words = {"dead_letter", "accept"}}, \
	{"event_types", PS_TEXTS_OPTION, PS_FIELD(event_types), .nullable = true, .min = 1, .max = PS_MAX_ID_BYTES}, \
	{"workers", PS_INT_OPTION, PS_FIELD(workers), .min = 1, .max = PS_MAX_WORKERS}, \
	{"partitions", PS_PARTITIONS_OPTION, .nullable = true}, \
	{"dead_letter_pause_ratio", PS_RATIO_OPTION, PS_FIELD(dead_letter_pause_ratio)}, \
	{"customer_lock_timeout", PS_INTERVAL_OPTION, PS_FIELD(customer_lock_timeout_ms), .max = USECS_PER_MINUTE, .unit = 1000}, \
	{"redis", PS_TEXT_OPTION, PS_FIELD(sinks[PS_SINK_REDIS]), .removable = true}, \
	{"redis_prefix", PS_TEXT_OPTION, PS_FIELD(redis_prefix)}, \
	{"redis_ttl", PS_INTERVAL_OPTION, PS_FIELD(redis_ttl_s), .min = USECS_PER_SEC, .max = 365 * USECS_PER_DAY, .unit = USECS_PER_SEC}, \
	{"changelog_topic", PS_TEXT_OPTION, PS_FIELD(sinks[PS_SINK_CHANGELOG]), .removable = true}, \
	{"dead_letter_topic", PS_TEXT_OPTION, PS_FIELD(sinks[PS_SINK_DEAD_LETTERS]), .removable = true}, \
	{"segment_channel_prefix", PS_TEXT_OPTION, PS_FIELD(segment_channel_prefix), .removable = true, .min = 1, .max = PS_MAX_SEGMENT_PREFIX}, \
	{"format", PS_TEXT_OPTION, PS_FIELD(format)}, \
	{"field_map", PS_JSONB_OPTION, PS_FIELD(field_map), .removable = true}, \
	{"timestamp_unit", PS_TEXT_OPTION, PS_FIELD(timestamp_unit)}, \
	{"event_id_scope", PS_TEXT_OPTION, PS_FIELD(event_id_scope), .fixed = true, .words = {"customer", "stream"}}, \
	{"watch", PS_TEXTS_OPTION, PS_FIELD(watch), .removable = true}, \
	{"message_key", PS_TEXT_OPTION, PS_FIELD(message_key), .fixed = true, .words = {"any", "customer"}}, \
	{"partitioner", PS_TEXT_OPTION, PS_FIELD(partitioner), .fixed = true, .words = {"any", "citus"}}

extern const PsStreamOption ps_stream_options[];
extern const int ps_nstream_options;

#endif							/* PS_STREAM_H */

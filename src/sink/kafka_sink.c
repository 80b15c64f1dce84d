/*
 * kafka_sink.c
 *	  The two sinks that write to Kafka: the changelog of profiles, and dead letters. They
 *	  share everything but how they read and remove a batch.
 */
#include "postgres.h"

#include "kafka/client.h"
#include "kafka/options.h"
#include "kafka/producer.h"
#include "sink/sink.h"
#include "storage/latch.h"
#include "store/dead_letter_outbox.h"
#include "store/distributed.h"
#include "store/outbox.h"
#include "store/topic_catalog.h"
#include "utils/memutils.h"

#define LETTER_BYTES (8 * 1024 * 1024)	/* of the values of a batch */

typedef struct KafkaSink
{
	PsSink		sink;
	MemoryContext settings_context; /* of options and topic */
	List	   *options;		/* of PsKafkaOption */
	const char *topic;
	PsProducer *producer;		/* lives until the process ends */
	PsProducer *other;			/* of the name of a writer that is shut out; NULL: none is at the moment */
	PsMessage  *messages;
	int			n;
	bool		refused;		/* the batch is one message that is too large */
	bool		split;			/* a batch was too large, and none has failed since */
	Datum		letters;		/* array of the dead_letter_ids of the batch */
} KafkaSink;

/* Without transactions Kafka would shut out nobody, and an older version could come after a newer one. */
static void
check_transactions(const KafkaSink *self, List *options)
{
	if (self->sink.kind == PS_SINK_CHANGELOG && !ps_kafka_transactions(options) && ps_distributed())
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("the changelog of distributed profiles needs transactions of Kafka"),
				 errhint("Remove the option transactions from the stream and its server.")));
}

/* New options or another topic need a new process, because to close a producer may block. */
static PsSinkState
kafka_sink_configure(PsSink *sink, const PsStream *stream, Oid role)
{
	KafkaSink  *self = (KafkaSink *) sink;
	List	   *options = ps_connection_options(stream->server, stream->bootstrap_servers, stream->options, role);
	const char *topic = stream->sinks[sink->kind];
	MemoryContext old;
	ListCell   *cell;

	check_transactions(self, options);
	if (self->topic != NULL && strcmp(self->topic, topic) == 0 && ps_kafka_options_equal(self->options, options))
		return PS_SINK_IDLE;
	if (self->producer != NULL)
		return PS_SINK_NEEDS_RESTART;
	MemoryContextReset(self->settings_context);
	old = MemoryContextSwitchTo(self->settings_context);
	self->topic = pstrdup(topic);
	self->options = NIL;
	foreach(cell, options)
	{
		PsKafkaOption *option = lfirst(cell);

		self->options = ps_kafka_add_option(self->options, option->name, option->value);
	}
	MemoryContextSwitchTo(old);
	return PS_SINK_IDLE;
}

/* Makes a message of a customer's profile; a tombstone when the profile is gone. */
static void
make_update(PsMessage *message, const PsPending *pending)
{
	PsHeader   *version;

	message->key = pending->customer_id;
	message->key_len = strlen(pending->customer_id);
	message->value = pending->document;
	if (pending->document == NULL)
		return;
	message->value_len = strlen(pending->document);
	version = palloc0(sizeof(PsHeader));
	version->name = "profile-version";
	version->value = psprintf(INT64_FORMAT, pending->version);
	version->value_len = strlen(version->value);
	message->headers = version;
	message->nheaders = 1;
}

static int
read_changelog(PsSink *sink)
{
	KafkaSink  *self = (KafkaSink *) sink;
	PsPending  *pending;

	self->n = ps_outbox_read(sink->stream_id, sink->kind, sink->limit, &pending, &sink->taken);
	self->messages = palloc0(Max(self->n, 1) * sizeof(PsMessage));
	sink->changed_at = palloc(Max(self->n, 1) * sizeof(TimestampTz));
	for (int i = 0; i < self->n; i++)
	{
		make_update(&self->messages[i], &pending[i]);
		sink->changed_at[i] = pending[i].changed_at;
	}
	return self->n;
}

static int
read_letters(PsSink *sink)
{
	KafkaSink  *self = (KafkaSink *) sink;

	self->n = ps_dead_letter_outbox_read(sink->stream_id, sink->limit, LETTER_BYTES, &self->messages, &self->letters, &sink->changed_at);
	return self->n;
}

/* The producer of a writer. Kafka shuts out older ones. */
static PsProducer *
make_producer(KafkaSink *self, const char *writer)
{
	MemoryContext old = MemoryContextSwitchTo(self->sink.context);
	char	   *id = psprintf("profile_stream.%s.%d.%s", writer, self->sink.stream_id, ps_sinks[self->sink.kind].name);
	PsProducer *producer = ps_producer_create(self->options, self->topic, id);

	MemoryContextSwitchTo(old);
	return producer;
}

static void
kafka_sink_connect(PsSink *sink)
{
	KafkaSink  *self = (KafkaSink *) sink;

	if (self->producer == NULL)
		self->producer = make_producer(self, sink->writer);
	if (self->other == NULL && sink->shut_out != NIL)
		self->other = make_producer(self, linitial(sink->shut_out));
}

static void
kafka_sink_send(PsSink *sink)
{
	KafkaSink  *self = (KafkaSink *) sink;

	kafka_sink_connect(sink);
	self->refused = false;
	ps_producer_send(self->producer, self->messages, self->n);
}

/* Halves a batch that is too large, until one message is left: that one is refused. */
static PsSinkState
take_too_large(KafkaSink *self)
{
	self->refused = self->n == 1;
	self->split = true;
	self->sink.limit = Max(self->n / 2, 1);
	if (!self->refused)
		return PS_SINK_RETRY_NOW;
	ps_producer_discard(self->producer);
	return PS_SINK_IDLE;
}

/*
 * Repeats at once a batch that failed after one that was too large. librdkafka counts
 * messages that are too large as sent. So the broker refuses the next ones of their
 * partition as out of sequence, perhaps some batches later. To abort the transaction
 * cures that, and a pause would not.
 */
static PsSinkState
take_failed(KafkaSink *self)
{
	bool		follows = self->split;

	self->split = false;
	return follows ? PS_SINK_RETRY_NOW : PS_SINK_FAILED;
}

/* Goes on to shut out other writers, one after the other. */
static PsSinkState
shut_out_others(KafkaSink *self)
{
	switch (ps_producer_work(self->other))
	{
		case PS_PRODUCER_BUSY:
			return PS_SINK_BUSY;
		case PS_PRODUCER_IDLE:
			ps_producer_end(self->other);
			self->other = NULL;
			self->sink.shut_out = list_delete_first(self->sink.shut_out);
			kafka_sink_connect(&self->sink);
			return self->other == NULL ? PS_SINK_IDLE : PS_SINK_BUSY;
		default:
			return PS_SINK_NEEDS_RESTART;
	}
}

static PsSinkState
kafka_sink_work(PsSink *sink, int ready)
{
	KafkaSink  *self = (KafkaSink *) sink;

	if (self->producer == NULL)
		return PS_SINK_IDLE;
	if (self->other != NULL)
	{
		PsSinkState state = shut_out_others(self);

		if (state != PS_SINK_IDLE)
			return state;
	}
	switch (ps_producer_work(self->producer))
	{
		case PS_PRODUCER_IDLE:
			return PS_SINK_IDLE;
		case PS_PRODUCER_BUSY:
			return PS_SINK_BUSY;
		case PS_PRODUCER_FAILED:
			return take_failed(self);
		case PS_PRODUCER_TOO_LARGE:
			return take_too_large(self);
		case PS_PRODUCER_SPENT:
			break;
	}
	return PS_SINK_NEEDS_RESTART;
}

static pgsocket
kafka_sink_socket(PsSink *sink)
{
	KafkaSink  *self = (KafkaSink *) sink;

	return self->producer == NULL ? PGINVALID_SOCKET : ps_producer_wakeup_fd(self->other != NULL ? self->other : self->producer);
}

static int
kafka_sink_events(PsSink *sink)
{
	return WL_SOCKET_READABLE;
}

static long
kafka_sink_timeout_ms(PsSink *sink)
{
	return -1;
}

static const char *
kafka_sink_error(PsSink *sink, const char **hint)
{
	KafkaSink  *self = (KafkaSink *) sink;

	return ps_producer_error(self->other != NULL ? self->other : self->producer, hint);
}

/* How many messages were refused. After a success the next batch may be larger. */
static int64
count_refused(KafkaSink *self)
{
	self->sink.limit = Min(PS_SINK_BATCH, self->sink.limit + self->sink.limit / 8 + 1);
	return self->refused ? 1 : ps_producer_refused(self->producer);
}

static int64
finish_changelog(PsSink *sink)
{
	ps_outbox_delivered(sink->stream_id, sink->kind, &sink->taken);
	return count_refused((KafkaSink *) sink);
}

static int64
finish_letters(PsSink *sink)
{
	KafkaSink  *self = (KafkaSink *) sink;

	ps_dead_letter_outbox_delivered(sink->stream_id, self->letters);
	return count_refused(self);
}

static void
kafka_sink_disconnect(PsSink *sink)
{
	KafkaSink  *self = (KafkaSink *) sink;

	if (self->producer != NULL)
		ps_producer_discard(self->producer);
	self->messages = NULL;
	self->n = 0;
}

static const PsSinkMethods changelog_methods = {
	.configure = kafka_sink_configure,
	.connect = kafka_sink_connect,
	.read = read_changelog,
	.send = kafka_sink_send,
	.work = kafka_sink_work,
	.socket = kafka_sink_socket,
	.events = kafka_sink_events,
	.timeout_ms = kafka_sink_timeout_ms,
	.error = kafka_sink_error,
	.finish = finish_changelog,
	.disconnect = kafka_sink_disconnect,
};

static const PsSinkMethods letters_methods = {
	.configure = kafka_sink_configure,
	.connect = kafka_sink_connect,
	.read = read_letters,
	.send = kafka_sink_send,
	.work = kafka_sink_work,
	.socket = kafka_sink_socket,
	.events = kafka_sink_events,
	.timeout_ms = kafka_sink_timeout_ms,
	.error = kafka_sink_error,
	.finish = finish_letters,
	.disconnect = kafka_sink_disconnect,
};

void
ps_topic_sink_check(const PsStream *stream, PsSinkKind kind, Oid role)
{
	static const char legal[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
	const char *topic = stream->sinks[kind];
	const char *error = NULL;

	if (strlen(topic) > 249 || strspn(topic, legal) != strlen(topic))
		error = "have at most 249 letters, digits, dots, underscores and hyphens";
	else if (ps_stream_names_topic(stream, topic))
		error = "not be the topic that is read";	/* the stream would read what it writes */
	for (int other = 0; error == NULL && other < kind; other++)
		if (stream->sinks[other] != NULL && strcmp(stream->sinks[other], topic) == 0)
			error = psprintf("differ from %s", ps_sinks[other].option);
	if (error != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s must %s", ps_sinks[kind].option, error)));
}

static PsSink *
kafka_sink_create(const PsSinkMethods *methods)
{
	KafkaSink  *self = palloc0(sizeof(KafkaSink));

	self->sink.methods = methods;
	self->settings_context = AllocSetContextCreate(CurrentMemoryContext, "profile_stream Kafka", ALLOCSET_SMALL_SIZES);
	return &self->sink;
}

PsSink *
ps_changelog_sink_create(void)
{
	return kafka_sink_create(&changelog_methods);
}

PsSink *
ps_dead_letters_sink_create(void)
{
	return kafka_sink_create(&letters_methods);
}

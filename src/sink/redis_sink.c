/*
 * redis_sink.c
 *	  The sink that writes profiles to a Redis, with redis_client.c.
 */
#include "postgres.h"

#include "sink/redis_client.h"
#include "sink/sink.h"
#include "store/outbox.h"
#include "utils/memutils.h"

typedef struct RedisSink
{
	PsSink		sink;
	MemoryContext connection_context;	/* its reset closes the connection */
	const PsStream *stream;
	PsRedisTarget *target;
	PsRedis    *redis;			/* NULL: not connected */
	PsRedisItem *items;
	int			nitems;
} RedisSink;

static void
redis_sink_disconnect(PsSink *sink)
{
	RedisSink  *self = (RedisSink *) sink;

	MemoryContextReset(self->connection_context);
	self->redis = NULL;
	self->items = NULL;
	self->nitems = 0;
}

/* Connects anew, because it may be another Redis or another password. The batch is sent again. */
static PsSinkState
redis_sink_configure(PsSink *sink, const PsStream *stream, Oid role)
{
	RedisSink  *self = (RedisSink *) sink;

	self->target = ps_redis_target(stream->sinks[PS_SINK_REDIS], role);
	self->stream = stream;
	return PS_SINK_RETRY_NOW;
}

static int
redis_sink_read(PsSink *sink)
{
	RedisSink  *self = (RedisSink *) sink;
	PsPending  *pending;
	int			n = ps_outbox_read(sink->stream_id, sink->kind, sink->limit, &pending, &sink->taken);

	self->items = palloc0(Max(n, 1) * sizeof(PsRedisItem));
	self->nitems = n;
	sink->changed_at = palloc(Max(n, 1) * sizeof(TimestampTz));
	for (int i = 0; i < n; i++)
	{
		sink->changed_at[i] = pending[i].changed_at;
		self->items[i].customer_id = pending[i].customer_id;
		self->items[i].version = pending[i].version;
		self->items[i].document = pending[i].document;
	}
	return n;
}

static void
redis_sink_connect(PsSink *sink)
{
	RedisSink  *self = (RedisSink *) sink;
	MemoryContext old;
	char	   *writer;
	List	   *others = NIL;
	ListCell   *cell;

	if (self->redis != NULL)
		return;
	old = MemoryContextSwitchTo(self->connection_context);
	/* a session that tries a connection has no stream */
	writer = sink->stream_id == 0 ? pstrdup("test")
		: psprintf("%s.%d", sink->writer, sink->stream_id);
	foreach(cell, sink->shut_out)
		others = lappend(others, psprintf("%s.%d", (const char *) lfirst(cell), sink->stream_id));
	self->redis = ps_redis_open(self->target, self->stream->redis_prefix, self->stream->redis_ttl_s, writer, others);
	MemoryContextSwitchTo(old);
}

static void
redis_sink_send(PsSink *sink)
{
	RedisSink  *self = (RedisSink *) sink;

	redis_sink_connect(sink);
	ps_redis_send(self->redis, self->items, self->nitems);
}

static PsSinkState
redis_sink_work(PsSink *sink, int ready)
{
	static const PsSinkState states[] = {
		[PS_REDIS_IDLE] = PS_SINK_IDLE,
		[PS_REDIS_BUSY] = PS_SINK_BUSY,
		[PS_REDIS_FAILED] = PS_SINK_FAILED,
	};
	RedisSink  *self = (RedisSink *) sink;

	return self->redis == NULL ? PS_SINK_IDLE : states[ps_redis_work(self->redis, ready)];
}

static pgsocket
redis_sink_socket(PsSink *sink)
{
	RedisSink  *self = (RedisSink *) sink;

	return self->redis == NULL ? PGINVALID_SOCKET : ps_redis_socket(self->redis);
}

static int
redis_sink_events(PsSink *sink)
{
	return ps_redis_events(((RedisSink *) sink)->redis);
}

static long
redis_sink_timeout_ms(PsSink *sink)
{
	RedisSink  *self = (RedisSink *) sink;

	return self->redis == NULL ? -1 : ps_redis_timeout_ms(self->redis);
}

static const char *
redis_sink_error(PsSink *sink, const char **hint)
{
	const char *reason = ps_redis_error(((RedisSink *) sink)->redis, hint);

	return reason[0] == '\0' ? NULL : reason;
}

static int64
redis_sink_finish(PsSink *sink)
{
	RedisSink  *self = (RedisSink *) sink;
	int64		refused = 0;

	for (int i = 0; i < self->nitems; i++)
		refused += self->items[i].result == PS_REDIS_FOREIGN;

	ps_outbox_delivered(sink->stream_id, sink->kind, &sink->taken);
	return refused;
}

static const PsSinkMethods methods = {
	.configure = redis_sink_configure,
	.connect = redis_sink_connect,
	.read = redis_sink_read,
	.send = redis_sink_send,
	.work = redis_sink_work,
	.socket = redis_sink_socket,
	.events = redis_sink_events,
	.timeout_ms = redis_sink_timeout_ms,
	.error = redis_sink_error,
	.finish = redis_sink_finish,
	.disconnect = redis_sink_disconnect,
};

PsSink *
ps_redis_sink_create(void)
{
	RedisSink  *self = palloc0(sizeof(RedisSink));

	self->sink.methods = &methods;
	self->connection_context = AllocSetContextCreate(CurrentMemoryContext, "profile_stream Redis", ALLOCSET_SMALL_SIZES);
	return &self->sink;
}

/*
 * consumer.c
 *	  A consumer that reads librdkafka's events and its log without waiting. A pipe
 *	  wakes the worker when something comes.
 *
 *	  Messages are copied into the memory context of the batch, and their events are
 *	  destroyed at once, so that an ERROR leaks nothing.
 */
#include "postgres.h"

#include <librdkafka/rdkafka.h>
#include <unistd.h>

#include "core/text.h"
#include "core/unix_time.h"
#include "kafka/client.h"
#include "kafka/consumer.h"
#include "kafka/thread.h"
#include "kafka/token.h"
#include "settings.h"
#include "utils/timestamp.h"

struct PsConsumer
{
	rd_kafka_t *rk;
	rd_kafka_queue_t *queue;
	rd_kafka_queue_t *log;
	const PsTopic *topics;
	int			ntopics;
	int			last;			/* place of the topic that was found last */
	int			pipe[2];
	rd_kafka_event_t *event;	/* that is being read; an ERROR leaves it here */
};

PsConsumer *
ps_consumer_create(List *options, const char *group_id)
{
	PsConsumer *consumer = palloc0(sizeof(PsConsumer));

	ps_wakeup_pipe(consumer->pipe);
	consumer->rk = ps_kafka_create_consumer(options, group_id);
	rd_kafka_poll_set_consumer(consumer->rk);
	consumer->queue = rd_kafka_queue_get_consumer(consumer->rk);
	consumer->log = ps_kafka_queue_logs(consumer->rk, consumer->pipe[1]);
	rd_kafka_queue_io_event_enable(consumer->queue, consumer->pipe[1], "x", 1);
	return consumer;
}

void
ps_consumer_set_topics(PsConsumer *consumer, const PsTopic *topics, int n)
{
	consumer->topics = topics;
	consumer->ntopics = n;
	consumer->last = 0;
}

/* The topic of that name, NULL: there is none any more. */
static const PsTopic *
find_topic(PsConsumer *consumer, const char *name)
{
	int			place = consumer->last;

	for (int i = 0; i < consumer->ntopics; i++, place = place + 1 < consumer->ntopics ? place + 1 : 0)
	{
		if (strcmp(consumer->topics[place].name, name) == 0)
		{
			consumer->last = place;
			return &consumer->topics[place];
		}
	}
	return NULL;
}

/* The name of a topic, which there is. */
static const char *
topic_name(const PsConsumer *consumer, int32 topic_no)
{
	for (int i = 0; i < consumer->ntopics; i++)
		if (consumer->topics[i].topic_no == topic_no)
			return consumer->topics[i].name;
	elog(ERROR, "topic %d is not one of the stream", topic_no);
}

void *
ps_consumer_handle(PsConsumer *consumer)
{
	return consumer->rk;
}

int
ps_consumer_wakeup_fd(const PsConsumer *consumer)
{
	return consumer->pipe[0];
}

/* Makes librdkafka's list of the positions. */
static rd_kafka_topic_partition_list_t *
position_list(PsConsumer *consumer, const PsPosition *positions, int n)
{
	rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(n);

	for (int i = 0; i < n; i++)
		rd_kafka_topic_partition_list_add(list, topic_name(consumer, positions[i].topic_no), positions[i].partition)->offset =
			positions[i].offset;
	return list;
}

void
ps_consumer_assign(PsConsumer *consumer, const PsPosition *positions, int n)
{
	rd_kafka_topic_partition_list_t *list = position_list(consumer, positions, n);
	rd_kafka_resp_err_t err = rd_kafka_assign(consumer->rk, list);

	rd_kafka_topic_partition_list_destroy(list);
	if (err != RD_KAFKA_RESP_ERR_NO_ERROR)
		ereport(ERROR,
				(errcode(ERRCODE_FDW_ERROR),
				 errmsg("could not assign partitions: %s", ps_text_of_error(rd_kafka_err2str(err)))));
}

static char *
consumer_copy_bytes(const void *bytes, size_t len)
{
	char	   *copy = palloc(len + 1);

	if (len > 0)
		memcpy(copy, bytes, len);
	copy[len] = '\0';
	return copy;
}

/* Copies the headers of a message, up to their limits; returns their size. */
static size_t
copy_headers(PsMessage *message, const rd_kafka_message_t *from)
{
	rd_kafka_headers_t *headers;
	rd_kafka_resp_err_t err = rd_kafka_message_headers(from, &headers);
	PsHeader   *copies;
	size_t		bytes = 0;
	size_t		n;

	if (err != RD_KAFKA_RESP_ERR_NO_ERROR)
	{
		message->headers_cut = err == RD_KAFKA_RESP_ERR__NOENT ? 0 : -1;
		return 0;
	}
	n = rd_kafka_header_cnt(headers);
	copies = palloc0(Min(Max(n, 1), PS_MAX_HEADERS) * sizeof(PsHeader));
	for (size_t i = 0; i < Min(n, PS_MAX_HEADERS); i++)
	{
		const char *name;
		const void *value;
		size_t		len;

		if (rd_kafka_header_get_all(headers, i, &name, &value, &len) != RD_KAFKA_RESP_ERR_NO_ERROR)
			break;
		len = value ? len : 0;
		if (bytes + strlen(name) + len > PS_MAX_HEADER_BYTES)
			break;
		bytes += strlen(name) + len;
		copies[i].name = pstrdup(name);
		copies[i].value = value ? consumer_copy_bytes(value, len) : NULL;
		copies[i].value_len = (int) len;
		message->nheaders = (int) i + 1;
	}
	message->headers = copies;
	message->headers_cut = (int64) n - message->nheaders;
	return bytes;
}

/*
 * Copies a value, or only the beginning of one that is too large to be applied. A value
 * may have any size, because Kafka's limits count compressed bytes.
 */
static void
consumer_copy_value(PsMessage *message, const rd_kafka_message_t *from)
{
	size_t		kept = from->len <= ps_max_event_bytes ? from->len : Min(PS_KEPT_VALUE_BYTES, ps_max_event_bytes);

	message->value = consumer_copy_bytes(from->payload, kept);
	message->value_len = (int) kept;
	message->value_cut = (int64) (from->len - kept);
}

/* Copies one message into the intake. */
static void
consumer_take_message(PsIntake *intake, const PsTopic *topic, const rd_kafka_message_t *from)
{
	PsMessage  *message;
	rd_kafka_timestamp_type_t type;
	int64		ms = rd_kafka_message_timestamp(from, &type);

	if (intake->n >= intake->capacity)
	{
		intake->capacity = Max(256, 2 * intake->capacity);
		intake->messages = intake->messages == NULL
			? palloc(intake->capacity * sizeof(PsMessage))
			: repalloc_huge(intake->messages, intake->capacity * sizeof(PsMessage));
	}
	message = &intake->messages[intake->n++];
	memset(message, 0, sizeof(PsMessage));
	message->topic = topic->name;
	message->topic_no = topic->topic_no;
	message->partition = from->partition;
	message->offset = from->offset;

	message->kafka_timestamp = type == RD_KAFKA_TIMESTAMP_NOT_AVAILABLE || ms <= 0 || ms > INT64CONST(200000000000000)
		? DT_NOBEGIN : ps_timestamp_of_unix_us(ms * 1000);
	if (from->key != NULL)
	{
		message->key_len = (int) Min(from->key_len, PS_MAX_KEY_BYTES);
		message->key = consumer_copy_bytes(from->key, message->key_len);
		message->key_cut = (int64) from->key_len - message->key_len;
	}
	if (from->payload != NULL)
		consumer_copy_value(message, from);
	intake->bytes += copy_headers(message, from) + message->value_len + message->key_len + sizeof(PsMessage);
}

static List *
add_position(List *list, PsPosition where)
{
	PsPosition *position = palloc(sizeof(PsPosition));

	*position = where;
	return lappend(list, position);
}

/* Notes an offset that librdkafka cannot read. It retries for ever, and delivers nothing after it. */
static void
consumer_refuse(PsIntake *intake, PsPosition where, const char *text)
{
	PsUnreadable *refusal = palloc(sizeof(PsUnreadable));

	refusal->topic_no = where.topic_no;
	refusal->partition = where.partition;
	refusal->offset = where.offset;
	refusal->reason = ps_text_of_error(text);
	intake->refused = lappend(intake->refused, refusal);
}

/* Sorts an error: it concerns an offset, a partition, or the whole client, which has partition -1. */
static void
consumer_take_error(PsIntake *intake, rd_kafka_resp_err_t err, PsPosition where, const char *text)
{
	switch (err)
	{
		case RD_KAFKA_RESP_ERR__PARTITION_EOF:
			intake->ends = add_position(intake->ends, where);
			break;
		case RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET:
		case RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE:
		case RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART:
		case RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC:
		case RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION:
		case RD_KAFKA_RESP_ERR_FENCED_LEADER_EPOCH:
		case RD_KAFKA_RESP_ERR_UNKNOWN_LEADER_EPOCH:
			intake->lost = add_position(intake->lost, where);
			break;
		case RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN:
			/* any topic may be created anew until a broker is back; the text tells less than the error of a broker */
			intake->suspects = lappend_int(intake->suspects, -1);
			break;
		case RD_KAFKA_RESP_ERR__BAD_MSG:
		case RD_KAFKA_RESP_ERR__BAD_COMPRESSION:
		case RD_KAFKA_RESP_ERR__UNSUPPORTED_FEATURE:
		case RD_KAFKA_RESP_ERR__NOT_IMPLEMENTED:
		case RD_KAFKA_RESP_ERR__FS:
		case RD_KAFKA_RESP_ERR_INVALID_MSG:
		case RD_KAFKA_RESP_ERR_INVALID_MSG_SIZE:
		case RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE:
		case RD_KAFKA_RESP_ERR_INVALID_RECORD:
		case RD_KAFKA_RESP_ERR_UNSUPPORTED_COMPRESSION_TYPE:
			if (where.partition >= 0 && where.offset >= 0)
				consumer_refuse(intake, where, text);
			else
				intake->error = ps_text_of_error(text);
			break;
		case RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED:
			break;				/* the group has offsets for Kafka's own tools only, and would hide why a topic cannot
								 * be read */
		default:
			intake->error = ps_text_of_error(text);
	}
}

/*
 * Reads a log line that says that a partition has lost its leader. No event says so,
 * and librdkafka goes on by itself, perhaps in a new topic of the same name.
 */
static void
consumer_take_log(PsIntake *intake, rd_kafka_event_t *event)
{
	const char *facility;
	const char *line;
	const char *partition;
	int			level;

	if (rd_kafka_event_log(event, &facility, &line, &level) != 0 || strcmp(facility, "BROKERUA") != 0)
		return;
	partition = strstr(line, "]: broker unavailable");
	while (partition != NULL && partition > line && *partition != '[')
		partition--;
	intake->suspects = lappend_int(intake->suspects, partition == NULL || *partition != '[' ? -1 : atoi(partition + 1));
}

/* Takes what a fetch brought of a partition. It leaves out messages of a topic that the stream has left since. */
static void
take_fetched(PsConsumer *consumer, PsIntake *intake, const rd_kafka_message_t *message)
{
	const PsTopic *topic = find_topic(consumer, rd_kafka_topic_name(message->rkt));
	PsPosition	where = {topic != NULL ? topic->topic_no : -1, message->partition, message->offset};

	if (topic == NULL)
		return;
	if (message->err == RD_KAFKA_RESP_ERR_NO_ERROR)
		consumer_take_message(intake, topic, message);
	else
		consumer_take_error(intake, message->err, where, rd_kafka_message_errstr(message));
}

/* Takes an error of a partition, or of the whole client. */
static void
take_error_event(PsConsumer *consumer, PsIntake *intake, rd_kafka_event_t *event)
{
	rd_kafka_topic_partition_t *found = rd_kafka_event_topic_partition(event);
	const PsTopic *topic = found ? find_topic(consumer, found->topic) : NULL;
	PsPosition	where = {-1, -1, -1};

	if (topic != NULL)
	{
		where.topic_no = topic->topic_no;
		where.partition = found->partition;
		where.offset = found->offset;
	}
	if (found == NULL || topic != NULL)
		consumer_take_error(intake, rd_kafka_event_error(event), where, rd_kafka_event_error_string(event));
	if (found != NULL)
		rd_kafka_topic_partition_destroy(found);
}

/* Sorts one event of the queue into the intake. */
static void
take_event(PsConsumer *consumer, PsIntake *intake, rd_kafka_event_t *event)
{
	const rd_kafka_message_t *message;

	switch (rd_kafka_event_type(event))
	{
		case RD_KAFKA_EVENT_FETCH:
			while ((message = rd_kafka_event_message_next(event)) != NULL)
				take_fetched(consumer, intake, message);
			break;
		case RD_KAFKA_EVENT_ERROR:
			take_error_event(consumer, intake, event);
			break;
		case RD_KAFKA_EVENT_OAUTHBEARER_TOKEN_REFRESH:
			ps_token_renew(consumer->rk);
			break;
		default:
			break;				/* reports of group commits */
	}
}

/* Reads the log. Before a message of a new topic came, the log said that the old one was gone: so it is read after messages. */
static void
drain_log(PsConsumer *consumer, PsIntake *intake)
{
	rd_kafka_event_t *event;

	while ((event = rd_kafka_queue_poll(consumer->log, 0)) != NULL)
	{
		if (rd_kafka_event_type(event) == RD_KAFKA_EVENT_LOG)
			consumer_take_log(intake, event);
		rd_kafka_event_destroy(event);
	}
}

void
ps_consumer_drain(PsConsumer *consumer, PsIntake *intake, int max_messages, int64 max_bytes,
				  PsMoment deadline)
{
	char		woken[64];

	while (read(consumer->pipe[0], woken, sizeof(woken)) > 0)
		;
	intake->exhausted = false;
	while (intake->n < max_messages && intake->bytes < max_bytes)
	{
		if (consumer->event != NULL)
			rd_kafka_event_destroy(consumer->event);
		consumer->event = NULL;
		if (intake->n % 256 == 255 && ps_clock_now() >= deadline)
			break;
		consumer->event = rd_kafka_queue_poll(consumer->queue, 0);
		if (consumer->event == NULL)
		{
			intake->exhausted = true;
			break;
		}
		take_event(consumer, intake, consumer->event);
	}
	if (consumer->event != NULL)
		rd_kafka_event_destroy(consumer->event);
	consumer->event = NULL;
	drain_log(consumer, intake);
}

int64
ps_consumer_end_offset(PsConsumer *consumer, int32 topic_no, int32 partition)
{
	int64_t		low;
	int64_t		high;

	if (rd_kafka_get_watermark_offsets(consumer->rk, topic_name(consumer, topic_no), partition, &low, &high) !=
		RD_KAFKA_RESP_ERR_NO_ERROR || high < 0)
		return -1;
	return high;
}

void
ps_consumer_report(PsConsumer *consumer, const PsPosition *positions, int n)
{
	rd_kafka_topic_partition_list_t *list = position_list(consumer, positions, n);

	(void) rd_kafka_commit(consumer->rk, list, 1);	/* asynchronous */
	rd_kafka_topic_partition_list_destroy(list);
}

void
ps_consumer_close(PsConsumer *consumer)
{
	rd_kafka_error_t *error = rd_kafka_consumer_close_queue(consumer->rk, consumer->queue);

	if (error != NULL)
	{
		rd_kafka_error_destroy(error);
		return;
	}
	for (int i = 0; i < 40 && !rd_kafka_consumer_closed(consumer->rk); i++)
	{
		rd_kafka_event_t *event = rd_kafka_queue_poll(consumer->queue, 25);

		if (event != NULL)
			rd_kafka_event_destroy(event);
	}
	/* it is not destroyed: the process ends, and to destroy it may wait for ever after a topic has vanished */
	ereport(DEBUG1, (errmsg_internal("Kafka client \"%s\" is closed", rd_kafka_name(consumer->rk))));
}

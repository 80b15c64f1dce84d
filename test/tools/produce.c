/*
 * produce.c
 *	  Writes messages to Kafka, for tests, the demo and the benchmark.
 *
 *	  produce -b brokers -t topic [-p partitions] [-j] [file]
 *	  produce -b brokers -t topic -D partition:offset
 *	  produce -b brokers -t topic -X
 *
 *	  Lines are partition<TAB>key<TAB>base64(value), "-" for a null value, an
 *	  empty key for none; with -j they are key<TAB>value and the key's hash
 *	  chooses the partition. -p creates the topic first, -D deletes the records
 *	  before an offset, -X deletes the topic. Succeeds only when every message
 *	  was delivered, in the order of the lines of each partition.
 */
#include <errno.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <librdkafka/rdkafka.h>

#define ADMIN_TIMEOUT_MS 30000

static long undelivered = 0;	/* messages whose delivery failed */

static void
die(const char *what, const char *why)
{
	fprintf(stderr, "produce: %s: %s\n", what, why);
	exit(1);
}

static void
on_delivery(rd_kafka_t *handle, const rd_kafka_message_t *message, void *opaque)
{
	(void) handle;
	(void) opaque;
	if (message->err && undelivered++ == 0)
		fprintf(stderr, "produce: delivery failed: %s\n", rd_kafka_err2str(message->err));
}

static void
set_option(rd_kafka_conf_t *conf, const char *name, const char *value)
{
	char		errstr[512];

	if (rd_kafka_conf_set(conf, name, value, errstr, sizeof(errstr)) != RD_KAFKA_CONF_OK)
		die(name, errstr);
}

/* A producer that keeps the order and repeats nothing. */
static rd_kafka_t *
open_producer(const char *brokers)
{
	char		errstr[512];
	rd_kafka_conf_t *conf = rd_kafka_conf_new();
	rd_kafka_t *handle;

	set_option(conf, "bootstrap.servers", brokers);
	set_option(conf, "enable.idempotence", "true");
	set_option(conf, "partitioner", "murmur2_random");
	set_option(conf, "linger.ms", "5");
	set_option(conf, "queue.buffering.max.messages", "200000");
	set_option(conf, "message.timeout.ms", "300000");
	set_option(conf, "message.max.bytes", "20000000");
	rd_kafka_conf_set_dr_msg_cb(conf, on_delivery);
	handle = rd_kafka_new(RD_KAFKA_PRODUCER, conf, errstr, sizeof(errstr));
	if (handle == NULL)
		die("could not create the producer", errstr);
	return handle;
}

/* Waits for an admin request's result and dies when the request failed. */
static rd_kafka_event_t *
admin_result(rd_kafka_queue_t *queue, const char *what)
{
	rd_kafka_event_t *event = rd_kafka_queue_poll(queue, ADMIN_TIMEOUT_MS + 5000);

	if (event == NULL)
		die(what, "no answer");
	if (rd_kafka_event_error(event))
		die(what, rd_kafka_event_error_string(event));
	return event;
}

/* Waits until a topic was created or deleted; a topic that exists is as good as created. */
static void
finish_topic(rd_kafka_queue_t *queue, const char *what)
{
	rd_kafka_event_t *event = admin_result(queue, what);
	const rd_kafka_topic_result_t **topics;
	size_t		n;

	if (rd_kafka_event_type(event) == RD_KAFKA_EVENT_CREATETOPICS_RESULT)
		topics = rd_kafka_CreateTopics_result_topics(rd_kafka_event_CreateTopics_result(event), &n);
	else
		topics = rd_kafka_DeleteTopics_result_topics(rd_kafka_event_DeleteTopics_result(event), &n);
	for (size_t i = 0; i < n; i++)
	{
		rd_kafka_resp_err_t err = rd_kafka_topic_result_error(topics[i]);

		if (err && err != RD_KAFKA_RESP_ERR_TOPIC_ALREADY_EXISTS)
			die(what, rd_kafka_err2str(err));
	}
	rd_kafka_event_destroy(event);
	rd_kafka_queue_destroy(queue);
}

static void
create_topic(rd_kafka_t *handle, const char *topic, int partitions)
{
	const char *what = "could not create the topic";
	char		errstr[512];
	rd_kafka_queue_t *queue = rd_kafka_queue_new(handle);
	rd_kafka_NewTopic_t *new_topic = rd_kafka_NewTopic_new(topic, partitions, 1, errstr, sizeof(errstr));

	if (new_topic == NULL)
		die(what, errstr);
	rd_kafka_CreateTopics(handle, &new_topic, 1, NULL, queue);
	finish_topic(queue, what);
	rd_kafka_NewTopic_destroy(new_topic);
}

static void
delete_topic(rd_kafka_t *handle, const char *topic)
{
	rd_kafka_queue_t *queue = rd_kafka_queue_new(handle);
	rd_kafka_DeleteTopic_t *old_topic = rd_kafka_DeleteTopic_new(topic);

	rd_kafka_DeleteTopics(handle, &old_topic, 1, NULL, queue);
	finish_topic(queue, "could not delete the topic");
	rd_kafka_DeleteTopic_destroy(old_topic);
}

/* Deletes the records of a partition before an offset, given as partition:offset. */
static void
delete_records(rd_kafka_t *handle, const char *topic, const char *spec)
{
	const char *what = "could not delete records";
	rd_kafka_queue_t *queue = rd_kafka_queue_new(handle);
	rd_kafka_topic_partition_list_t *before = rd_kafka_topic_partition_list_new(1);
	const rd_kafka_topic_partition_list_t *done;
	rd_kafka_DeleteRecords_t *request;
	rd_kafka_event_t *event;
	int			partition;
	long long	offset;

	if (sscanf(spec, "%d:%lld", &partition, &offset) != 2)
		die(spec, "not partition:offset");
	rd_kafka_topic_partition_list_add(before, topic, partition)->offset = offset;
	request = rd_kafka_DeleteRecords_new(before);
	rd_kafka_DeleteRecords(handle, &request, 1, NULL, queue);
	event = admin_result(queue, what);
	done = rd_kafka_DeleteRecords_result_offsets(rd_kafka_event_DeleteRecords_result(event));
	for (int i = 0; i < done->cnt; i++)
		if (done->elems[i].err)
			die(what, rd_kafka_err2str(done->elems[i].err));
	rd_kafka_event_destroy(event);
	rd_kafka_DeleteRecords_destroy(request);
	rd_kafka_topic_partition_list_destroy(before);
	rd_kafka_queue_destroy(queue);
}

/* Decodes base64 in place; returns the length, -1 when it is not base64. */
static ssize_t
decode_base64(char *text)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	unsigned char *out = (unsigned char *) text;
	ssize_t		len = 0;
	unsigned	bits = 0;
	int			nbits = 0;

	for (const char *c = text; *c != '\0' && *c != '='; c++)
	{
		const char *digit = strchr(digits, *c);

		if (digit == NULL)
			return -1;
		bits = bits << 6 | (unsigned) (digit - digits);
		nbits += 6;
		if (nbits >= 8)
		{
			nbits -= 8;
			out[len++] = (unsigned char) (bits >> nbits);
		}
	}
	return len;
}

/* Queues one message, waiting while the queue is full. */
static void
send_message(rd_kafka_t *handle, const char *topic, int partition,
			 const char *key, const char *value, size_t len)
{
	for (;;)
	{
		rd_kafka_resp_err_t err;

		err = rd_kafka_producev(handle,
								RD_KAFKA_V_TOPIC(topic),
								RD_KAFKA_V_PARTITION(partition),
								RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY),
								RD_KAFKA_V_KEY(*key ? key : NULL, strlen(key)),
								RD_KAFKA_V_VALUE((void *) value, len),
								RD_KAFKA_V_END);
		if (err == RD_KAFKA_RESP_ERR_NO_ERROR)
			break;
		if (err != RD_KAFKA_RESP_ERR__QUEUE_FULL)
			die("could not produce", rd_kafka_err2str(err));
		rd_kafka_poll(handle, 100);
	}
	rd_kafka_poll(handle, 0);
}

/* Sends one line; dies when it does not have the format. */
static void
send_line(rd_kafka_t *handle, const char *topic, char *line, bool json)
{
	char	   *key;
	char	   *value;
	int			partition = RD_KAFKA_PARTITION_UA;
	ssize_t		len;

	if (json)
	{
		key = line;
		value = strchr(key, '\t');
		if (value == NULL)
			die("not key<TAB>value", line);
		*value++ = '\0';
		send_message(handle, topic, partition, key, value, strlen(value));
		return;
	}
	key = strchr(line, '\t');
	value = key == NULL ? NULL : strchr(key + 1, '\t');
	if (value == NULL)
		die("not partition<TAB>key<TAB>value", line);
	*key++ = '\0';
	*value++ = '\0';
	partition = atoi(line);
	if (strcmp(value, "-") == 0)
	{
		send_message(handle, topic, partition, key, NULL, 0);
		return;
	}
	len = decode_base64(value);
	if (len < 0)
		die("value is not base64", value);
	send_message(handle, topic, partition, key, value, (size_t) len);
}

int
main(int argc, char **argv)
{
	const char *brokers = NULL;
	const char *topic = NULL;
	const char *records = NULL;
	int			partitions = 0;
	bool		json = false;
	bool		drop = false;
	int			option;
	rd_kafka_t *handle;

	while ((option = getopt(argc, argv, "b:t:p:D:Xj")) != -1)
	{
		switch (option)
		{
			case 'b':
				brokers = optarg;
				break;
			case 't':
				topic = optarg;
				break;
			case 'p':
				partitions = atoi(optarg);
				break;
			case 'D':
				records = optarg;
				break;
			case 'X':
				drop = true;
				break;
			case 'j':
				json = true;
				break;
			default:
				return 2;
		}
	}
	if (brokers == NULL || topic == NULL)
	{
		fprintf(stderr, "usage: produce -b brokers -t topic [-p partitions] [-j] [-D partition:offset] [-X] [file]\n");
		return 2;
	}

	handle = open_producer(brokers);
	if (partitions > 0)
		create_topic(handle, topic, partitions);
	if (records != NULL)
		delete_records(handle, topic, records);
	if (drop)
		delete_topic(handle, topic);

	if (records == NULL && !drop)
	{
		FILE	   *input = stdin;
		char	   *line = NULL;
		size_t		size = 0;
		ssize_t		len;

		if (optind < argc && (input = fopen(argv[optind], "r")) == NULL)
			die(argv[optind], strerror(errno));
		while ((len = getline(&line, &size, input)) >= 0)
		{
			if (len > 0 && line[len - 1] == '\n')
				line[len - 1] = '\0';
			send_line(handle, topic, line, json);
		}
		free(line);
		if (input != stdin)
			fclose(input);
		if (rd_kafka_flush(handle, 300000) != RD_KAFKA_RESP_ERR_NO_ERROR)
			die("could not deliver", "time is over");
	}
	rd_kafka_destroy(handle);
	return undelivered > 0 ? 1 : 0;
}

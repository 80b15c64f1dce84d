/*
 * produce.c
 *	  Writes messages to Kafka, for tests, the demo and the benchmark.
 *
 *	  produce -b brokers -t topic [-p partitions] [-n messages] [-j] [file]
 *	  produce -b brokers -t topic -T transactional.id [-w milliseconds]
 *
 *	  Lines are partition<TAB>key<TAB>base64(value), "-" for a null value, an
 *	  empty key for none; a fourth column holds headers, name=base64(value), with
 *	  commas between. With -j they are key<TAB>value and the key's hash
 *	  chooses the partition. -p creates the topic first, -n bounds what
 *	  is sent, and so read, at once. Succeeds only when every message was
 *	  delivered, in the order of the lines of each partition. Their timestamp is
 *	  that of the environment variable PRODUCE_TIMESTAMP, else the present time.
 *
 *	  With -T the lines are messages of transactions, and the lines "flush",
 *	  "commit" and "abort" are carried out and answered with "ok"; a transaction
 *	  that is open at the end of the input is left open, and aborted by the broker
 *	  when it is -w milliseconds old.
 */
#include "client.h"

#include <getopt.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#define ADMIN_TIMEOUT_MS 30000

static long undelivered = 0;	/* messages whose delivery failed */

static void
on_delivery(rd_kafka_t *handle, const rd_kafka_message_t *message, void *opaque)
{
	(void) handle;
	(void) opaque;
	if (message->err && undelivered++ == 0)
		fprintf(stderr, "produce: delivery failed: %s\n", rd_kafka_err2str(message->err));
}

/* A producer that keeps the order and repeats nothing; with an id, of transactions. */
static rd_kafka_t *
open_producer(const char *brokers, const char *transactional_id, const char *timeout_ms,
			  const char *batch_messages)
{
	rd_kafka_conf_t *conf = make_conf(brokers);
	rd_kafka_t *handle;

	set_option(conf, "enable.idempotence", "true");
	set_option(conf, "partitioner", "murmur2_random");
	set_option(conf, "linger.ms", "5");
	set_option(conf, "queue.buffering.max.messages", "200000");
	set_option(conf, "message.max.bytes", "20000000");
	set_option(conf, "batch.num.messages", batch_messages);
	if (transactional_id != NULL)
	{
		set_option(conf, "transactional.id", transactional_id);
		set_option(conf, "transaction.timeout.ms", timeout_ms);
	}
	else
		set_option(conf, "message.timeout.ms", "300000");
	rd_kafka_conf_set_dr_msg_cb(conf, on_delivery);
	handle = open_client(RD_KAFKA_PRODUCER, conf);
	return handle;
}

/* Creates a topic; one that exists is as good as created. */
static void
create_topic(rd_kafka_t *handle, const char *topic, int partitions)
{
	const char *what = "could not create the topic";
	char		errstr[512];
	rd_kafka_queue_t *queue = rd_kafka_queue_new(handle);
	rd_kafka_NewTopic_t *new_topic = rd_kafka_NewTopic_new(topic, partitions, 1, errstr, sizeof(errstr));
	const rd_kafka_topic_result_t **topics;
	rd_kafka_event_t *event;
	size_t		n;

	if (new_topic == NULL)
		die(what, errstr);
	rd_kafka_CreateTopics(handle, &new_topic, 1, NULL, queue);
	event = rd_kafka_queue_poll(queue, ADMIN_TIMEOUT_MS + 5000);
	if (event == NULL)
		die(what, "no answer");
	if (rd_kafka_event_error(event))
		die(what, rd_kafka_event_error_string(event));
	topics = rd_kafka_CreateTopics_result_topics(rd_kafka_event_CreateTopics_result(event), &n);
	for (size_t i = 0; i < n; i++)
	{
		rd_kafka_resp_err_t err = rd_kafka_topic_result_error(topics[i]);

		if (err && err != RD_KAFKA_RESP_ERR_TOPIC_ALREADY_EXISTS)
			die(what, rd_kafka_err2str(err));
	}
	rd_kafka_event_destroy(event);
	rd_kafka_queue_destroy(queue);
	rd_kafka_NewTopic_destroy(new_topic);
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

typedef struct Message
{
	int			partition;
	const char *key;			/* empty: none */
	const char *value;			/* NULL: a tombstone */
	size_t		len;
	rd_kafka_headers_t *headers;	/* NULL: none; librdkafka's once it is queued */
} Message;

/* Reads headers from the fourth column; dies when it does not have the format. */
static rd_kafka_headers_t *
read_headers(char *column)
{
	rd_kafka_headers_t *headers = rd_kafka_headers_new(8);
	char	   *rest = column;
	char	   *header;

	while ((header = strtok_r(rest, ",", &rest)) != NULL)
	{
		char	   *value = strchr(header, '=');
		ssize_t		len;

		if (value == NULL)
			die("header is not name=base64", header);
		*value++ = '\0';
		len = decode_base64(value);
		if (len < 0)
			die("header is not base64", value);
		rd_kafka_header_add(headers, header, -1, value, len);
	}
	return headers;
}

/* Queues one message, waiting while the queue is full. */
static void
send_message(rd_kafka_t *handle, const char *topic, const Message *message)
{
	const char *given = getenv("PRODUCE_TIMESTAMP");
	int64_t		timestamp = given != NULL ? atoll(given) : 0;

	for (;;)
	{
		rd_kafka_resp_err_t err;

		err = rd_kafka_producev(handle,
								RD_KAFKA_V_TOPIC(topic),
								RD_KAFKA_V_PARTITION(message->partition),
								RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY),
								RD_KAFKA_V_KEY(*message->key ? message->key : NULL, strlen(message->key)),
								RD_KAFKA_V_VALUE((void *) message->value, message->len),
								RD_KAFKA_V_HEADERS(message->headers),
								RD_KAFKA_V_TIMESTAMP(timestamp),
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
	Message		message = {.partition = RD_KAFKA_PARTITION_UA};
	char	   *key;
	char	   *value;
	char	   *headers;
	ssize_t		len;

	if (json)
	{
		key = line;
		value = strchr(key, '\t');
		if (value == NULL)
			die("not key<TAB>value", line);
		*value++ = '\0';
		message.key = key;
		message.value = value;
		message.len = strlen(value);
		send_message(handle, topic, &message);
		return;
	}
	key = strchr(line, '\t');
	value = key == NULL ? NULL : strchr(key + 1, '\t');
	if (value == NULL)
		die("not partition<TAB>key<TAB>value", line);
	*key++ = '\0';
	*value++ = '\0';
	headers = strchr(value, '\t');
	if (headers != NULL)
	{
		*headers++ = '\0';
		message.headers = read_headers(headers);
	}
	message.partition = atoi(line);
	message.key = key;
	if (strcmp(value, "-") != 0)
	{
		len = decode_base64(value);
		if (len < 0)
			die("value is not base64", value);
		message.value = value;
		message.len = (size_t) len;
	}
	send_message(handle, topic, &message);
}

/* Dies of an error of a transaction. */
static void
check(rd_kafka_error_t *error, const char *what)
{
	if (error != NULL)
		die(what, rd_kafka_error_string(error));
}

/* Carries out a line that is a command of transactions; whether it was one. */
static bool
obey(rd_kafka_t *handle, const char *line)
{
	if (strcmp(line, "flush") == 0)
	{
		if (rd_kafka_flush(handle, ADMIN_TIMEOUT_MS) != RD_KAFKA_RESP_ERR_NO_ERROR)
			die("could not deliver", "time is over");
	}
	else if (strcmp(line, "commit") == 0 || strcmp(line, "abort") == 0)
	{
		check(line[0] == 'c' ? rd_kafka_commit_transaction(handle, ADMIN_TIMEOUT_MS)
			  : rd_kafka_abort_transaction(handle, ADMIN_TIMEOUT_MS), line);
		check(rd_kafka_begin_transaction(handle), "begin");
	}
	else
		return false;
	puts("ok");
	fflush(stdout);
	return true;
}

/* Sends all lines of a file, or of the standard input. */
static void
send_lines(rd_kafka_t *handle, const char *topic, const char *path, bool json, bool transactions)
{
	FILE	   *input = stdin;
	char	   *line = NULL;
	size_t		size = 0;
	ssize_t		len;

	if (path != NULL && (input = fopen(path, "r")) == NULL)
		die(path, strerror(errno));
	while ((len = getline(&line, &size, input)) >= 0)
	{
		if (len > 0 && line[len - 1] == '\n')
			line[len - 1] = '\0';
		if (transactions && obey(handle, line))
			continue;
		send_line(handle, topic, line, json);
	}
	free(line);
	if (input != stdin)
		fclose(input);
	if (rd_kafka_flush(handle, 300000) != RD_KAFKA_RESP_ERR_NO_ERROR)
		die("could not deliver", "time is over");
}

int
main(int argc, char **argv)
{
	const char *brokers = NULL;
	const char *topic = NULL;
	const char *transactional_id = NULL;
	const char *timeout_ms = "60000";
	const char *batch_messages = "10000";
	int			partitions = 0;
	bool		json = false;
	int			option;
	rd_kafka_t *handle;

	while ((option = getopt(argc, argv, "b:t:p:n:T:w:j")) != -1)
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
			case 'n':
				batch_messages = optarg;
				break;
			case 'T':
				transactional_id = optarg;
				break;
			case 'w':
				timeout_ms = optarg;
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
		fprintf(stderr, "usage: produce -b brokers -t topic [-p partitions] [-n messages] [-j] [-T transactional.id [-w milliseconds]] [file]\n");
		return 2;
	}

	handle = open_producer(brokers, transactional_id, timeout_ms, batch_messages);
	if (partitions > 0)
		create_topic(handle, topic, partitions);
	if (transactional_id != NULL)
	{
		check(rd_kafka_init_transactions(handle, ADMIN_TIMEOUT_MS), "could not start transactions");
		check(rd_kafka_begin_transaction(handle), "begin");
	}
	send_lines(handle, topic, optind < argc ? argv[optind] : NULL, json, transactional_id != NULL);
	if (transactional_id != NULL)
		_exit(undelivered > 0); /* to destroy the producer would abort what is open */
	rd_kafka_destroy(handle);
	return undelivered > 0 ? 1 : 0;
}

/*
 * consume.c
 *	  Reads all that is in a topic, for tests.
 *
 *	  consume -b brokers -t topic [-u] [-o]
 *
 *	  Prints partition<TAB>offset<TAB>key<TAB>value<TAB>headers in lines, "-" for
 *	  what is null, tab and line feed as \t and \n, headers as name=value joined by
 *	  commas; what is committed, with -u also what is not. Ends at the end of each
 *	  partition, as it was when it came there.
 *
 *	  Kafka answers a commit once it is certain, and marks the messages as committed
 *	  after that. So it waits for transactions that are open; with -o it leaves them out.
 */
#include "client.h"

#include <getopt.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#define TIMEOUT_MS 30000

static rd_kafka_t *
open_consumer(const char *brokers, bool uncommitted)
{
	rd_kafka_conf_t *conf = make_conf(brokers);
	rd_kafka_t *handle;

	set_option(conf, "group.id", "consume");
	set_option(conf, "enable.auto.commit", "false");
	set_option(conf, "enable.partition.eof", "true");
	set_option(conf, "isolation.level", uncommitted ? "read_uncommitted" : "read_committed");
	set_option(conf, "fetch.message.max.bytes", "50000000");
	handle = open_client(RD_KAFKA_CONSUMER, conf);
	rd_kafka_poll_set_consumer(handle);
	return handle;
}

/* Assigns all partitions from their beginning; returns how many. */
static int
assign_all(rd_kafka_t *handle, const char *topic)
{
	const struct rd_kafka_metadata *metadata;
	rd_kafka_topic_t *handle_topic = rd_kafka_topic_new(handle, topic, NULL);
	rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
	rd_kafka_resp_err_t err = rd_kafka_metadata(handle, 0, handle_topic, &metadata, TIMEOUT_MS);
	int			n;

	if (err != RD_KAFKA_RESP_ERR_NO_ERROR)
		die("could not look up the topic", rd_kafka_err2str(err));
	n = metadata->topics[0].partition_cnt;
	for (int i = 0; i < n; i++)
		rd_kafka_topic_partition_list_add(list, topic, i)->offset = RD_KAFKA_OFFSET_BEGINNING;
	err = rd_kafka_assign(handle, list);
	if (err != RD_KAFKA_RESP_ERR_NO_ERROR || n == 0)
		die("could not assign the topic", rd_kafka_err2str(err));
	rd_kafka_topic_partition_list_destroy(list);
	rd_kafka_metadata_destroy(metadata);
	rd_kafka_topic_destroy(handle_topic);
	return n;
}

static void
print_bytes(const void *bytes, size_t len)
{
	if (bytes == NULL)
		putchar('-');
	for (const char *c = bytes; bytes != NULL && c < (const char *) bytes + len; c++)
	{
		if (*c == '\t' || *c == '\n')
			fputs(*c == '\t' ? "\\t" : "\\n", stdout);
		else
			putchar(*c);
	}
}

static void
print_message(const rd_kafka_message_t *message)
{
	rd_kafka_headers_t *headers;
	const char *name;
	const void *value;
	size_t		len;

	printf("%d\t%lld\t", (int) message->partition, (long long) message->offset);
	print_bytes(message->key, message->key_len);
	putchar('\t');
	print_bytes(message->payload, message->len);
	putchar('\t');
	if (rd_kafka_message_headers(message, &headers) == RD_KAFKA_RESP_ERR_NO_ERROR)
		for (size_t i = 0; rd_kafka_header_get_all(headers, i, &name, &value, &len) == RD_KAFKA_RESP_ERR_NO_ERROR; i++)
		{
			printf("%s%s=", i > 0 ? "," : "", name);
			print_bytes(value, len);
		}
	putchar('\n');
}

/* Whether a partition has ended where its end was reported: nothing behind that belongs to an open transaction. */
static bool
is_end(rd_kafka_t *handle, const rd_kafka_message_t *message)
{
	int64_t		low;
	int64_t		high;
	rd_kafka_resp_err_t err = rd_kafka_get_watermark_offsets(handle, rd_kafka_topic_name(message->rkt), message->partition, &low, &high);

	if (err != RD_KAFKA_RESP_ERR_NO_ERROR)
		die("could not look up the end of a partition", rd_kafka_err2str(err));
	return message->offset >= high;
}

/* Prints all messages of partitions, each up to its end. */
static void
read_all(rd_kafka_t *handle, int partitions, bool leave_open)
{
	bool	   *ended = calloc((unsigned) partitions, sizeof(bool));

	for (int left = partitions; left > 0;)
	{
		rd_kafka_message_t *message = rd_kafka_consumer_poll(handle, TIMEOUT_MS);

		if (message == NULL)
			die("could not read", "time is over");
		if (message->err == RD_KAFKA_RESP_ERR_NO_ERROR)
			print_message(message);
		else if (message->err == RD_KAFKA_RESP_ERR__PARTITION_EOF && !ended[message->partition] && (leave_open || is_end(handle, message)))
		{
			ended[message->partition] = true;
			left--;
		}
		rd_kafka_message_destroy(message);
	}
	free(ended);
}

int
main(int argc, char **argv)
{
	const char *brokers = NULL;
	const char *topic = NULL;
	bool		uncommitted = false;
	bool		leave_open = false;
	int			option;
	rd_kafka_t *handle;

	while ((option = getopt(argc, argv, "b:t:uo")) != -1)
	{
		if (option == 'b')
			brokers = optarg;
		else if (option == 't')
			topic = optarg;
		else if (option == 'u')
			uncommitted = true;
		else if (option == 'o')
			leave_open = true;
		else
			return 2;
	}
	if (brokers == NULL || topic == NULL)
	{
		fprintf(stderr, "usage: consume -b brokers -t topic [-u] [-o]\n");
		return 2;
	}
	handle = open_consumer(brokers, uncommitted);
	read_all(handle, assign_all(handle, topic), leave_open);
	rd_kafka_consumer_close(handle);
	rd_kafka_destroy(handle);
	return 0;
}

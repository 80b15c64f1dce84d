/*
 * topic.c
 *	  What an operator does to a topic, for tests.
 *
 *	  topic -b brokers -t topic -A partitions			adds partitions up to a number
 *	  topic -b brokers -t topic -C name=value,...		sets the topic's settings
 *	  topic -b brokers -t topic -D partition:offset	deletes the records before an offset
 *	  topic -b brokers -t topic -X						deletes the topic
 */
#include "client.h"

#include <getopt.h>
#include <string.h>

#define ADMIN_TIMEOUT_MS 30000

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

/* Waits until something was done to the topic, and dies when it was not. */
static void
finish(rd_kafka_queue_t *queue, const char *what)
{
	rd_kafka_event_t *event = admin_result(queue, what);
	const rd_kafka_topic_result_t **topics;
	size_t		n;

	if (rd_kafka_event_type(event) == RD_KAFKA_EVENT_CREATEPARTITIONS_RESULT)
		topics = rd_kafka_CreatePartitions_result_topics(rd_kafka_event_CreatePartitions_result(event), &n);
	else
		topics = rd_kafka_DeleteTopics_result_topics(rd_kafka_event_DeleteTopics_result(event), &n);
	for (size_t i = 0; i < n; i++)
		if (rd_kafka_topic_result_error(topics[i]))
			die(what, rd_kafka_err2str(rd_kafka_topic_result_error(topics[i])));
	rd_kafka_event_destroy(event);
	rd_kafka_queue_destroy(queue);
}

static void
add_partitions(rd_kafka_t *handle, const char *topic, int partitions)
{
	const char *what = "could not add partitions";
	char		errstr[512];
	rd_kafka_queue_t *queue = rd_kafka_queue_new(handle);
	rd_kafka_NewPartitions_t *more = rd_kafka_NewPartitions_new(topic, partitions, errstr, sizeof(errstr));

	if (more == NULL)
		die(what, errstr);
	rd_kafka_CreatePartitions(handle, &more, 1, NULL, queue);
	finish(queue, what);
	rd_kafka_NewPartitions_destroy(more);
}

/* Sets the settings of a topic, given as name=value,... */
static void
set_settings(rd_kafka_t *handle, const char *topic, char *settings)
{
	const char *what = "could not set the topic's settings";
	rd_kafka_queue_t *queue = rd_kafka_queue_new(handle);
	rd_kafka_ConfigResource_t *resource = rd_kafka_ConfigResource_new(RD_KAFKA_RESOURCE_TOPIC, topic);
	const		rd_kafka_ConfigResource_t **done;
	rd_kafka_event_t *event;
	size_t		n;

	for (char *name = strtok(settings, ","); name != NULL; name = strtok(NULL, ","))
	{
		char	   *value = strchr(name, '=');

		if (value == NULL)
			die(name, "not name=value");
		*value++ = '\0';
		if (rd_kafka_ConfigResource_set_config(resource, name, value))
			die(what, name);
	}
	rd_kafka_AlterConfigs(handle, &resource, 1, NULL, queue);
	event = admin_result(queue, what);
	done = rd_kafka_AlterConfigs_result_resources(rd_kafka_event_AlterConfigs_result(event), &n);
	for (size_t i = 0; i < n; i++)
		if (rd_kafka_ConfigResource_error(done[i]))
			die(what, rd_kafka_ConfigResource_error_string(done[i]));
	rd_kafka_event_destroy(event);
	rd_kafka_ConfigResource_destroy(resource);
	rd_kafka_queue_destroy(queue);
}

static void
delete_topic(rd_kafka_t *handle, const char *topic)
{
	rd_kafka_queue_t *queue = rd_kafka_queue_new(handle);
	rd_kafka_DeleteTopic_t *old_topic = rd_kafka_DeleteTopic_new(topic);

	rd_kafka_DeleteTopics(handle, &old_topic, 1, NULL, queue);
	finish(queue, "could not delete the topic");
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

int
main(int argc, char **argv)
{
	const char *brokers = NULL;
	const char *topic = NULL;
	rd_kafka_t *handle = NULL;
	int			done = 0;
	int			option;

	while ((option = getopt(argc, argv, "b:t:A:C:D:X")) != -1)
	{
		if (option == 'b')
			brokers = optarg;
		else if (option == 't')
			topic = optarg;
		else if (option == '?' || brokers == NULL || topic == NULL)
			break;
		else
		{
			if (handle == NULL)
				handle = open_client(RD_KAFKA_PRODUCER, make_conf(brokers));
			if (option == 'A')
				add_partitions(handle, topic, atoi(optarg));
			else if (option == 'C')
				set_settings(handle, topic, optarg);
			else if (option == 'D')
				delete_records(handle, topic, optarg);
			else
				delete_topic(handle, topic);
			done++;
		}
	}
	if (done == 0)
	{
		fprintf(stderr, "usage: topic -b brokers -t topic [-A partitions] [-C name=value,...] [-D partition:offset] [-X]\n");
		return 2;
	}
	rd_kafka_destroy(handle);
	return 0;
}

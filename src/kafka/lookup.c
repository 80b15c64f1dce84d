/*
 * lookup.c
 *	  A side thread that asks the broker for partitions and offsets. It calls librdkafka
 *	  and malloc(), and nothing of PostgreSQL. It writes into a pipe when it has finished.
 */
#include "postgres.h"

#include <librdkafka/rdkafka.h>
#include <unistd.h>

#include "core/text.h"
#include "core/unix_time.h"
#include "kafka/lookup.h"
#include "kafka/thread.h"
#include "settings.h"

#define FIRST_ASK_MS 2000		/* time enough to connect to a broker that is there */

/* Writes an error with what librdkafka says about it. */
static void
put_error(char *error, size_t size, const char *what, rd_kafka_resp_err_t err)
{
	char		reason[300];

	ps_text_put(reason, sizeof(reason), rd_kafka_err2str(err), strlen(rd_kafka_err2str(err)));
	snprintf(error, size, "%s: %s", what, reason);
}

/* Where nobody else reads the events of the client: notes that all brokers are down, and the newest error that names one. */
static void
lookup_take_events(PsLookup *lookup, char *reason, size_t size)
{
	rd_kafka_queue_t *queue = rd_kafka_queue_get_main(lookup->rk);
	rd_kafka_event_t *event;

	while (lookup->alone && (event = rd_kafka_queue_poll(queue, 0)) != NULL)
	{
		bool		is_error = rd_kafka_event_type(event) == RD_KAFKA_EVENT_ERROR;

		if (is_error && rd_kafka_event_error(event) == RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN)
			lookup->all_down = true;
		else if (is_error)
			ps_text_put(reason, size, rd_kafka_event_error_string(event), strlen(rd_kafka_event_error_string(event)));
		rd_kafka_event_destroy(event);
	}
	rd_kafka_queue_destroy(queue);
}

/*
 * Asks for the metadata. When it asks for the first time and all brokers refuse the
 * connection, it does not wait for the whole time: the address may be wrong. Later it
 * waits, because librdkafka says only once that all are down.
 */
static rd_kafka_resp_err_t
ask_metadata(PsLookup *lookup, bool all, rd_kafka_topic_t *topic, const struct rd_kafka_metadata **metadata)
{
	int			first_ms = lookup->asked ? lookup->timeout_ms : Min(FIRST_ASK_MS, lookup->timeout_ms);
	rd_kafka_resp_err_t err = rd_kafka_metadata(lookup->rk, all, topic, metadata, first_ms);
	char		reason[400] = "";

	lookup->asked = true;
	if (err == RD_KAFKA_RESP_ERR_NO_ERROR)
		return err;
	lookup_take_events(lookup, reason, sizeof(reason));
	if (!lookup->all_down && first_ms < lookup->timeout_ms)
	{
		err = rd_kafka_metadata(lookup->rk, all, topic, metadata, lookup->timeout_ms - first_ms);
		lookup_take_events(lookup, reason, sizeof(reason));
	}
	lookup->no_metadata = err != RD_KAFKA_RESP_ERR_NO_ERROR;
	if (lookup->no_metadata && reason[0] != '\0')
		snprintf(lookup->error, sizeof(lookup->error), "could not reach the broker: %s", reason);
	else if (lookup->no_metadata)
		put_error(lookup->error, sizeof(lookup->error), "could not reach the broker", err);
	return err;
}

/* Notes why the broker does not answer for a topic. */
static void
note_topic_error(PsLookupTopic *topic, const char *what, rd_kafka_resp_err_t err)
{
	topic->missing = err == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART || err == RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC;
	put_error(topic->error, sizeof(topic->error), what, err);
}

/* Notes how many partitions a topic has, as the metadata say. */
static void
count_partitions(PsLookupTopic *topic, const struct rd_kafka_metadata *metadata)
{
	rd_kafka_resp_err_t err = RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART;

	for (int i = 0; i < metadata->topic_cnt; i++)
	{
		const		rd_kafka_metadata_topic_t *found = &metadata->topics[i];

		if (strcmp(found->topic, topic->name) != 0)
			continue;
		err = found->err;
		if (err == RD_KAFKA_RESP_ERR_NO_ERROR)
			topic->known = found->partition_cnt;
		break;
	}
	if (err != RD_KAFKA_RESP_ERR_NO_ERROR)
		note_topic_error(topic, "could not read the topic", err);
}

/* Keeps the names of all topics but those of Kafka itself. */
static void
take_names(PsLookup *lookup, const struct rd_kafka_metadata *metadata)
{
	lookup->names = calloc(Max(metadata->topic_cnt, 1), sizeof(char *));
	for (int i = 0; i < metadata->topic_cnt && lookup->names != NULL; i++)
	{
		const		rd_kafka_metadata_topic_t *found = &metadata->topics[i];
		char	   *name;

		if (found->err != RD_KAFKA_RESP_ERR_NO_ERROR || strncmp(found->topic, "__", 2) == 0 || strlen(found->topic) > PS_MAX_TOPIC_BYTES)
			continue;
		name = strdup(found->topic);
		if (name != NULL)
			lookup->names[lookup->nnames++] = name;
	}
}

/* Asks which partitions the topics have: one topic by its name, several by a list of all. */
static void
look_up_topics(PsLookup *lookup)
{
	const struct rd_kafka_metadata *metadata;
	bool		all = lookup->list || lookup->ntopics != 1;
	rd_kafka_topic_t *topic = all ? NULL : rd_kafka_topic_new(lookup->rk, lookup->topics[0].name, NULL);
	rd_kafka_resp_err_t err;

	if (!all && topic == NULL)
	{
		note_topic_error(&lookup->topics[0], "could not look up the topic", rd_kafka_last_error());
		return;
	}
	err = ask_metadata(lookup, all, topic, &metadata);
	if (topic != NULL)
		rd_kafka_topic_destroy(topic);
	if (err != RD_KAFKA_RESP_ERR_NO_ERROR)
		return;
	for (int i = 0; i < lookup->ntopics; i++)
		count_partitions(&lookup->topics[i], metadata);
	if (lookup->list)
		take_names(lookup, metadata);
	rd_kafka_metadata_destroy(metadata);
}

/* The topic of that name, which was asked for; the search begins at one that was found before. */
static PsLookupTopic *
find_by_name(PsLookup *lookup, int *begin, const char *name)
{
	for (int i = 0; i < lookup->ntopics; i++)
	{
		PsLookupTopic *topic = &lookup->topics[(*begin + i) % lookup->ntopics];

		if (strcmp(topic->name, name) == 0)
		{
			*begin = topic - lookup->topics;
			return topic;
		}
	}
	return NULL;
}

/*
 * Asks for the offsets of a time, and stores each in the member at this place of its
 * partition's answer. All partitions are asked at once, because each question waits
 * for the fetch that is under way on the same connection.
 */
static void
look_up_offsets(PsLookup *lookup, int64 time, size_t place)
{
	rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(64);
	rd_kafka_resp_err_t err = RD_KAFKA_RESP_ERR_NO_ERROR;
	int			last = 0;

	for (int t = 0; t < lookup->ntopics; t++)
		for (int i = 0; i < lookup->topics[t].known && lookup->topics[t].error[0] == '\0'; i++)
			rd_kafka_topic_partition_list_add(list, lookup->topics[t].name, i)->offset = time;
	if (list->cnt > 0)
		err = rd_kafka_offsets_for_times(lookup->rk, list, lookup->timeout_ms);
	for (int i = 0; i < list->cnt && err == RD_KAFKA_RESP_ERR_NO_ERROR; i++)
	{
		rd_kafka_topic_partition_t *found = &list->elems[i];
		PsLookupTopic *topic = find_by_name(lookup, &last, found->topic);

		if (found->err != RD_KAFKA_RESP_ERR_NO_ERROR)
			note_topic_error(topic, "could not look up offsets", found->err);
		*(int64 *) ((char *) &topic->partitions[found->partition] + place) = found->offset;
	}
	rd_kafka_topic_partition_list_destroy(list);
	lookup->no_offsets |= err != RD_KAFKA_RESP_ERR_NO_ERROR;
	if (err != RD_KAFKA_RESP_ERR_NO_ERROR)
		put_error(lookup->error, sizeof(lookup->error), "could not look up offsets", err);
}

/* Asks for the first and last offsets of all partitions, and for those of the time. */
static void
look_up_partitions(PsLookup *lookup)
{
	for (int t = 0; t < lookup->ntopics; t++)
	{
		PsLookupTopic *topic = &lookup->topics[t];

		topic->partitions = calloc(Max(topic->known, 1), sizeof(PsLookupPartition));
		if (topic->partitions == NULL)
		{
			snprintf(lookup->error, sizeof(lookup->error), "out of memory");
			return;
		}
	}
	look_up_offsets(lookup, RD_KAFKA_OFFSET_BEGINNING, offsetof(PsLookupPartition, low));
	if (lookup->error[0] == '\0')
		look_up_offsets(lookup, RD_KAFKA_OFFSET_END, offsetof(PsLookupPartition, high));
	if (lookup->error[0] == '\0' && lookup->time_ms >= 0)
		look_up_offsets(lookup, lookup->time_ms, offsetof(PsLookupPartition, at_time));
	for (int t = 0; t < lookup->ntopics && lookup->error[0] == '\0'; t++)
		if (lookup->topics[t].error[0] == '\0')
			lookup->topics[t].npartitions = lookup->topics[t].known;
}

/* Makes the error of the first topic that of the look-up, if no topic answered. */
static void
sum_up(PsLookup *lookup)
{
	bool		missing = lookup->error[0] == '\0' && lookup->ntopics > 0;

	if (lookup->error[0] != '\0' || lookup->ntopics == 0)
		return;
	for (int t = 0; t < lookup->ntopics; t++)
	{
		if (lookup->topics[t].npartitions > 0)
			return;
		missing &= lookup->topics[t].missing;
	}
	lookup->topic_missing = missing;
	snprintf(lookup->error, sizeof(lookup->error), "%s", lookup->topics[0].error);
}

/* The side thread. */
static void *
lookup_ask(void *arg)
{
	PsLookup   *lookup = arg;

	PS_FAILPOINT("lookup");
	look_up_topics(lookup);
	if (lookup->error[0] == '\0')
		look_up_partitions(lookup);
	sum_up(lookup);
	ps_thread_tell(lookup->pipe, 'x');
	return NULL;
}

int64
ps_kafka_time(TimestampTz at)
{
	if (TIMESTAMP_NOT_FINITE(at))
		return -1;
	return Max(0, ps_unix_us_of(at) / 1000);
}

void
ps_lookup_init(PsLookup *lookup, void *rk)
{
	memset(lookup, 0, sizeof(PsLookup));
	lookup->rk = rk;
	ps_wakeup_pipe(lookup->pipe);
}

/* Forgets the last answer. */
static void
forget_answer(PsLookup *lookup)
{
	for (int t = 0; t < lookup->ntopics; t++)
		free(lookup->topics[t].partitions);
	for (int i = 0; i < lookup->nnames; i++)
		free(lookup->names[i]);
	free(lookup->topics);
	free(lookup->names);
	lookup->topics = NULL;
	lookup->names = NULL;
	lookup->ntopics = lookup->nnames = 0;
	lookup->error[0] = '\0';
	lookup->topic_missing = lookup->no_metadata = lookup->no_offsets = false;
}

bool
ps_lookup_start(PsLookup *lookup, const PsTopic *topics, int n, bool list, int64 time_ms, int timeout_ms)
{
	if (lookup->running)
		return true;
	forget_answer(lookup);
	lookup->topics = calloc(Max(n, 1), sizeof(PsLookupTopic));
	if (lookup->topics == NULL)
		return false;
	lookup->ntopics = n;
	for (int i = 0; i < n; i++)
	{
		lookup->topics[i].topic_no = topics[i].topic_no;
		strlcpy(lookup->topics[i].name, topics[i].name, sizeof(lookup->topics[i].name));
	}
	lookup->list = list;
	lookup->time_ms = time_ms;
	lookup->timeout_ms = timeout_ms;

	if (!ps_thread_start(lookup_ask, lookup))
		return false;
	lookup->running = true;
	return true;
}

bool
ps_lookup_done(PsLookup *lookup)
{
	char		byte;

	if (!lookup->running || read(lookup->pipe[0], &byte, 1) != 1)
		return false;
	lookup->running = false;
	return true;
}

const PsLookupTopic *
ps_lookup_topic(const PsLookup *lookup, int32 topic_no)
{
	for (int t = 0; t < lookup->ntopics; t++)
		if (lookup->topics[t].topic_no == topic_no)
			return &lookup->topics[t];
	return NULL;
}

const PsLookupPartition *
ps_lookup_partition(const PsLookup *lookup, int32 topic_no, int32 partition)
{
	const PsLookupTopic *topic = ps_lookup_topic(lookup, topic_no);

	return topic != NULL && partition < topic->npartitions ? &topic->partitions[partition] : NULL;
}

int
ps_lookup_most_partitions(const PsLookup *lookup)
{
	int			most = 0;

	for (int t = 0; t < lookup->ntopics; t++)
		most = Max(most, lookup->topics[t].npartitions);
	return most;
}

int
ps_lookup_all_partitions(const PsLookup *lookup)
{
	int			all = 0;

	for (int t = 0; t < lookup->ntopics; t++)
		all += lookup->topics[t].npartitions;
	return all;
}

bool
ps_lookup_ends(void *rk, PsEnd *ends, int n, int timeout_ms)
{
	rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(n);
	bool		known;

	for (int i = 0; i < n; i++)
		rd_kafka_topic_partition_list_add(list, ends[i].topic, ends[i].partition)->offset = RD_KAFKA_OFFSET_END;
	known = rd_kafka_offsets_for_times(rk, list, timeout_ms) == RD_KAFKA_RESP_ERR_NO_ERROR;
	for (int i = 0; i < n && known; i++)
		ends[i].end_offset = list->elems[i].err == RD_KAFKA_RESP_ERR_NO_ERROR ? list->elems[i].offset : -1;
	rd_kafka_topic_partition_list_destroy(list);
	return known;
}

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

static void
answer_error(PsLookup *lookup, const char *what, rd_kafka_resp_err_t err)
{
	char text[	400];

	lookup->topic_missing = err == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART ||
		err == RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC;
	ps_text_put(text, sizeof(text), rd_kafka_err2str(err), strlen(rd_kafka_err2str(err)));
	snprintf(lookup->error, sizeof(lookup->error), "%s: %s", what, text);
}

/* Counts the partitions of the topic; 0 on an error. */
static int
count_partitions(PsLookup *lookup)
{
	const struct rd_kafka_metadata *metadata;
	rd_kafka_topic_t *topic = rd_kafka_topic_new(lookup->rk, lookup->topic, NULL);
	rd_kafka_resp_err_t err;
	int			n = 0;

	if (topic == NULL)
	{
		answer_error(lookup, "could not look up the topic", rd_kafka_last_error());
		return 0;
	}
	err = rd_kafka_metadata(lookup->rk, 0, topic, &metadata, lookup->timeout_ms);
	rd_kafka_topic_destroy(topic);
	if (err != RD_KAFKA_RESP_ERR_NO_ERROR)
	{
		answer_error(lookup, "could not reach the broker", err);
		return 0;
	}
	if (metadata->topic_cnt == 1 && metadata->topics[0].err == RD_KAFKA_RESP_ERR_NO_ERROR)
		n = metadata->topics[0].partition_cnt;
	else
		answer_error(lookup, "could not read the topic",
					 metadata->topic_cnt == 1 ? metadata->topics[0].err : RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART);
	rd_kafka_metadata_destroy(metadata);
	return n;
}

/*
 * Asks for the offsets of a time, and stores each in the member at this place of its
 * partition's answer; false on an error. All partitions are asked at once, because each
 * question waits for the fetch that is under way on the same connection.
 */
static bool
look_up_offsets(PsLookup *lookup, int n, int64 time, size_t place)
{
	rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(n);
	rd_kafka_resp_err_t err;

	for (int i = 0; i < n; i++)
		rd_kafka_topic_partition_list_add(list, lookup->topic, i)->offset = time;
	err = rd_kafka_offsets_for_times(lookup->rk, list, lookup->timeout_ms);
	for (int i = 0; i < list->cnt && err == RD_KAFKA_RESP_ERR_NO_ERROR; i++)
	{
		rd_kafka_topic_partition_t *found = &list->elems[i];

		err = found->err;
		*(int64 *) ((char *) &lookup->partitions[found->partition] + place) = found->offset;
	}
	rd_kafka_topic_partition_list_destroy(list);
	if (err != RD_KAFKA_RESP_ERR_NO_ERROR)
		answer_error(lookup, "could not look up offsets", err);
	return err == RD_KAFKA_RESP_ERR_NO_ERROR;
}

/* Asks for the first and last offsets of all partitions, and for those of the time. */
static void
look_up_partitions(PsLookup *lookup, int n)
{
	lookup->partitions = calloc(n, sizeof(PsLookupPartition));
	if (lookup->partitions == NULL)
		snprintf(lookup->error, sizeof(lookup->error), "out of memory");
	else if (look_up_offsets(lookup, n, RD_KAFKA_OFFSET_BEGINNING, offsetof(PsLookupPartition, low)) &&
			 look_up_offsets(lookup, n, RD_KAFKA_OFFSET_END, offsetof(PsLookupPartition, high)) &&
			 (lookup->time_ms < 0 ||
			  look_up_offsets(lookup, n, lookup->time_ms, offsetof(PsLookupPartition, at_time))))
		lookup->npartitions = n;
}

/* The side thread. */
static void *
lookup_ask(void *arg)
{
	PsLookup   *lookup = arg;
	int			n = count_partitions(lookup);

	if (n > 0)
		look_up_partitions(lookup, n);
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
ps_lookup_init(PsLookup *lookup, void *rk, const char *topic)
{
	memset(lookup, 0, sizeof(PsLookup));
	lookup->rk = rk;
	strlcpy(lookup->topic, topic, sizeof(lookup->topic));
	ps_wakeup_pipe(lookup->pipe);
}

bool
ps_lookup_start(PsLookup *lookup, int64 time_ms, int timeout_ms)
{
	if (lookup->running)
		return true;
	free(lookup->partitions);
	lookup->partitions = NULL;
	lookup->npartitions = 0;
	lookup->error[0] = '\0';
	lookup->topic_missing = false;
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

bool
ps_lookup_ends(void *rk, const char *topic, const int32 *partitions, int n, int64 *ends, int timeout_ms)
{
	rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(n);
	bool		known;

	for (int i = 0; i < n; i++)
		rd_kafka_topic_partition_list_add(list, topic, partitions[i])->offset = RD_KAFKA_OFFSET_END;
	known = rd_kafka_offsets_for_times(rk, list, timeout_ms) == RD_KAFKA_RESP_ERR_NO_ERROR;
	for (int i = 0; i < n && known; i++)
		ends[i] = list->elems[i].err == RD_KAFKA_RESP_ERR_NO_ERROR ? list->elems[i].offset : -1;
	rd_kafka_topic_partition_list_destroy(list);
	return known;
}

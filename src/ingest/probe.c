/*
 * probe.c
 *	  A look-up for a session. A client of librdkafka would leave threads in the
 *	  session's process, so a background worker without a database asks the broker.
 *	  Question and answer are in a dynamic shared memory segment, and the secrets of
 *	  the connection are nowhere else.
 */
#include "postgres.h"

#include "clock.h"
#include "ingest/probe.h"
#include "kafka/client.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "process/bgworker.h"
#include "process/wait_event.h"
#include "storage/dsm.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "tcop/tcopprot.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

#define OPTION_BYTES 65536
#define ANSWER_POLL_MS 10

typedef struct ProbeSegment
{
	int64		time_ms;
	int			timeout_ms;
	int			options_len;
	char		options[OPTION_BYTES];	/* name \0 value \0 … */
	volatile bool answered;
	PsProbeAnswer answer;
} ProbeSegment;

PGDLLEXPORT void profile_stream_probe_main(Datum arg);

/* Packs the options into the segment. */
static void
pack_options(ProbeSegment *segment, List *options)
{
	ListCell   *cell;

	foreach(cell, options)
	{
		PsKafkaOption *option = lfirst(cell);
		int			name_len = strlen(option->name) + 1;
		int			value_len = strlen(option->value) + 1;

		if (segment->options_len + name_len + value_len > OPTION_BYTES)
			ereport(ERROR,
					(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
					 errmsg("the options of the connection to Kafka are too long")));
		memcpy(segment->options + segment->options_len, option->name, name_len);
		memcpy(segment->options + segment->options_len + name_len, option->value, value_len);
		segment->options_len += name_len + value_len;
	}
}

/* Waits for the answer; the caller ends the worker. */
static void
wait_for_answer(ProbeSegment *segment, BackgroundWorkerHandle *handle, int timeout_ms)
{
	PsMoment	deadline = ps_moment_plus(ps_clock_now(), timeout_ms);

	while (!segment->answered)
	{
		pid_t		pid;

		if (ps_clock_now() >= deadline ||
			GetBackgroundWorkerPid(handle, &pid) == BGWH_STOPPED)
			break;
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, ANSWER_POLL_MS, ps_wait_event(PS_WAIT_BROKER));
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
	pg_read_barrier();
	if (!segment->answered)
	{
		strlcpy(segment->answer.error, "the broker did not answer in time", sizeof(segment->answer.error));
		segment->answer.topic_missing = false;
	}
}

/* Puts the topics of the question into the segment. */
static void
pack_topics(ProbeSegment *segment, List *topics)
{
	ListCell   *cell;

	if (list_length(topics) > PS_PROBE_TOPICS)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("the stream has more than %d topics", PS_PROBE_TOPICS),
				 errhint("Name one with the argument topic, where there is one.")));
	foreach(cell, topics)
	{
		const PsTopic *topic = lfirst(cell);
		PsProbeTopic *packed = &segment->answer.topics[segment->answer.ntopics++];

		packed->topic_no = topic->topic_no;
		strlcpy(packed->name, topic->name, sizeof(packed->name));
	}
}

PsProbeAnswer *
ps_probe(List *options, List *topics, int64 time_ms, int timeout_ms)
{
	dsm_segment *dsm = dsm_create(sizeof(ProbeSegment), 0);
	ProbeSegment *segment = dsm_segment_address(dsm);
	BackgroundWorker worker;
	BackgroundWorkerHandle *handle;
	PsProbeAnswer *answer = palloc(sizeof(PsProbeAnswer));

	memset(segment, 0, sizeof(ProbeSegment));
	segment->time_ms = time_ms;
	segment->timeout_ms = timeout_ms - timeout_ms / 10; /* so that the reason comes in time */
	pack_options(segment, options);
	pack_topics(segment, topics);

	ps_bgworker_describe(&worker, "profile_stream probe", "profile_stream_probe_main");
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS;
	worker.bgw_start_time = BgWorkerStart_PostmasterStart;
	worker.bgw_main_arg = UInt32GetDatum(dsm_segment_handle(dsm));
	worker.bgw_notify_pid = MyProcPid;
	if (!RegisterDynamicBackgroundWorker(&worker, &handle))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_RESOURCES),
				 errmsg("no background worker slot is free to ask the broker"),
				 errhint("Raise max_worker_processes and restart the server.")));
	PG_TRY();
	{
		wait_for_answer(segment, handle, timeout_ms);
	}
	PG_FINALLY();
	{
		TerminateBackgroundWorker(handle);
	}
	PG_END_TRY();
	memcpy(answer, &segment->answer, sizeof(PsProbeAnswer));
	explicit_bzero(segment->options, OPTION_BYTES);
	dsm_detach(dsm);
	return answer;
}

/* Copies the answer for the topics. A partition that finds no room is left out. */
static void
copy_answer(PsProbeAnswer *answer, const PsLookup *lookup)
{
	int			used = 0;

	answer->topic_missing = lookup->topic_missing;
	strlcpy(answer->error, lookup->error, sizeof(answer->error));
	for (int t = 0; t < answer->ntopics; t++)
	{
		const PsLookupTopic *from = &lookup->topics[t];
		PsProbeTopic *to = &answer->topics[t];

		to->missing = from->missing;

		strlcpy(to->error, from->error, sizeof(to->error));
		to->first = used;
		to->npartitions = Min(from->npartitions, PS_PROBE_PARTITIONS - used);
		if (to->npartitions > 0)
			memcpy(&answer->partitions[used], from->partitions, to->npartitions * sizeof(PsLookupPartition));
		used += to->npartitions;
	}
}

/* Asks the broker and writes its answer. The client is not destroyed, because the process ends anyway. */
static void
probe_answer(ProbeSegment *segment)
{
	List	   *options = NIL;
	PsTopic    *topics = palloc0(Max(segment->answer.ntopics, 1) * sizeof(PsTopic));
	PsLookup	lookup;
	void	   *rk;

	for (int at = 0; at < segment->options_len;)
	{
		const char *name = segment->options + at;
		const char *value = name + strlen(name) + 1;

		options = ps_kafka_add_option(options, name, value);
		at += strlen(name) + strlen(value) + 2;
	}
	rk = ps_kafka_create_consumer(options, "profile_stream_probe");
	ps_lookup_init(&lookup, rk);
	lookup.alone = true;
	for (int t = 0; t < segment->answer.ntopics; t++)
	{
		topics[t].topic_no = segment->answer.topics[t].topic_no;
		topics[t].name = segment->answer.topics[t].name;
	}
	if (!ps_lookup_start(&lookup, topics, segment->answer.ntopics, false, segment->time_ms, segment->timeout_ms))
		return;
	while (!ps_lookup_done(&lookup))
	{
		(void) WaitLatchOrSocket(MyLatch, WL_LATCH_SET | WL_SOCKET_READABLE | WL_EXIT_ON_PM_DEATH,
								 lookup.pipe[0], -1, ps_wait_event(PS_WAIT_BROKER));
		ResetLatch(MyLatch);
		if (ProcDiePending)
			proc_exit(0);
	}
	copy_answer(&segment->answer, &lookup);
	pg_write_barrier();
	segment->answered = true;
}

void
profile_stream_probe_main(Datum arg)
{
	dsm_segment *dsm;

	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	CurrentResourceOwner = ResourceOwnerCreate(NULL, "profile_stream probe");
	dsm = dsm_attach(DatumGetUInt32(arg));
	if (dsm != NULL)
		probe_answer(dsm_segment_address(dsm));
	proc_exit(0);
}

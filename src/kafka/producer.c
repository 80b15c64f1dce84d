/*
 * producer.c
 *	  A producer, with transactions unless the option transactions is false. It reads librdkafka's events and its log without
 *	  waiting. A pipe wakes the relay when something comes.
 *
 *	  Calls that block (start, commit, abort) run in a side thread, one at a time. The
 *	  thread writes into the same pipe when a call ends. Meanwhile the relay goes on to
 *	  serve events, because the call waits for them.
 *
 *	  Each call also begins the next transaction, so that one is always open. Kafka
 *	  learns of it with its first message.
 *
 *	  Without transactions there is nothing to call. A batch is delivered once all of it
 *	  is answered, and one that fails is sent again, with what Kafka has of it already.
 */
#include "postgres.h"

#include <librdkafka/rdkafka.h>
#include <unistd.h>

#include "clock.h"
#include "core/text.h"
#include "kafka/client.h"
#include "kafka/options.h"
#include "kafka/producer.h"
#include "kafka/silence.h"
#include "kafka/thread.h"
#include "kafka/token.h"
#include "settings.h"

#define CALL_MS 10000			/* librdkafka ends a call after this time, and it is repeated */
#define OVERDUE_MS 20000		/* a call hangs, as in 2.14.2 after a freeze of the broker */
#define ANSWER_MS 5000			/* the broker is silent for too long */
#define ERROR_BYTES 512
#define NO_ANSWER "no answer from Kafka"

typedef enum Stage
{
	STARTING,					/* a call is under way */
	READY,
	SENDING,
	COMMITTING,					/* a call is under way */
	ABORTING,					/* likewise */
	SPENT
} Stage;

struct PsProducer
{
	rd_kafka_t *rk;
	rd_kafka_queue_t *queue;
	rd_kafka_queue_t *log;
	bool		transactions;
	char	   *topic;
	int			pipe[2];
	Stage		stage;
	rd_kafka_error_t *result;	/* of the last call; the thread sets it before it writes into the pipe */
	PsMoment	overdue;		/* the call must end before */

	const PsMessage *messages;
	int			n;				/* 0: no batch */
	int			sent;
	int			answered;
	int			refused;
	bool		aborted;		/* the batch is aborted, or will be */
	bool		too_large;

	PsMoment	deadline;		/* for the next answer */
	PsSilence	silence;		/* of the brokers */
	char		error[ERROR_BYTES]; /* why the batch is aborted, or the producer cannot go on */
	char		trouble[ERROR_BYTES];	/* newest error of librdkafka since the last answer */
};

#define FENCED_HINT "Another relay of this stream delivers to the topic, as of an old primary that still runs, or of a copy of this server that has the same profile_stream.cluster; or a transaction took longer than Kafka allows. Where another node of Citus got a shard of this one, the relay goes on by itself."

/* Names that occur in errors, and hints for them. */
static const struct
{
	const char *name;
	const char *hint;
}			known_errors[] = {
	{"UNKNOWN_TOPIC", "Create the topic; the relay finds it by itself."},
	{"UNKNOWN_PARTITION", "Create the topic; the relay finds it by itself."},
	{"TOPIC_EXCEPTION", "The name of the topic is not valid."},
	{"TRANSACTIONAL_ID_AUTHORIZATION_FAILED", "The Kafka user needs WRITE and DESCRIBE on transactional ids that begin with profile_stream. Or set the option transactions to false."},
	{"TOPIC_AUTHORIZATION_FAILED", "The Kafka user needs WRITE and DESCRIBE on the topic."},
	{"CLUSTER_AUTHORIZATION_FAILED", "The Kafka user needs IDEMPOTENT_WRITE on the cluster. Or set the option transactions to false."},
	{"FENCED", FENCED_HINT},
	{"PRODUCER_EPOCH", FENCED_HINT},
	{"INVALID_TRANSACTION_TIMEOUT", "Raise transaction.max.timeout.ms of the brokers to 30000 or more. Or set the option transactions to false."},
	{"MSG_SIZE_TOO_LARGE", "Raise max.message.bytes of the topic."},
	{"COORDINATOR", "Kafka needs its topic __transaction_state: a cluster of few brokers must lower transaction.state.log.replication.factor and transaction.state.log.min.isr. Or set the option transactions to false."},
};

static void
producer_extend_deadline(PsProducer *producer)
{
	producer->deadline = ps_moment_plus(ps_clock_now(), ANSWER_MS);
	producer->trouble[0] = '\0';
}

/* The side thread: makes the call that the stage asks for. */
static void *
producer_call(void *arg)
{
	PsProducer *producer = arg;
	rd_kafka_error_t *error;

	PS_FAILPOINT("relay_call");
	if (producer->stage == STARTING)
		error = rd_kafka_init_transactions(producer->rk, CALL_MS);
	else if (producer->stage == COMMITTING)
		error = rd_kafka_commit_transaction(producer->rk, CALL_MS);
	else
		error = rd_kafka_abort_transaction(producer->rk, CALL_MS);
	if (error == NULL)
		error = rd_kafka_begin_transaction(producer->rk);
	producer->result = error;
	ps_thread_tell(producer->pipe, 't');
	return NULL;
}

/* An error is an answer of Kafka, unless librdkafka made it by itself, as when a time is over. */
static void
note_answer(PsProducer *producer, rd_kafka_resp_err_t err)
{
	if (err > RD_KAFKA_RESP_ERR_NO_ERROR || err == RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC || err == RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION)
		ps_silence_end(&producer->silence, false);
}

static void
fail_for_good(PsProducer *producer, const char *error)
{
	producer->stage = SPENT;
	strlcpy(producer->error, error, ERROR_BYTES);
}

static void
producer_get_ready(PsProducer *producer)
{
	if (producer->stage == COMMITTING && producer->sent > 0)
		producer->n = 0;		/* but a batch that was handed over meanwhile is not sent yet */
	if (producer->stage != ABORTING)
		ps_silence_end(&producer->silence, false);
	producer->stage = READY;
	producer_extend_deadline(producer);
}

static void
start_call(PsProducer *producer, Stage stage)
{
	producer->stage = stage;
	producer->overdue = ps_moment_plus(ps_clock_now(), OVERDUE_MS);
	if (!producer->transactions && stage == ABORTING)
		(void) rd_kafka_purge(producer->rk, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT | RD_KAFKA_PURGE_F_NON_BLOCKING);
	else if (!producer->transactions)
		producer_get_ready(producer);
	else if (!ps_thread_start(producer_call, producer))
		fail_for_good(producer, "could not start a thread");
}

/* Takes the result of a call. */
static void
finish_call(PsProducer *producer)
{
	rd_kafka_error_t *error = producer->result;
	char		reason[ERROR_BYTES];

	if (error == NULL)
	{
		producer_get_ready(producer);
		return;
	}
	note_answer(producer, rd_kafka_error_code(error));
	snprintf(reason, ERROR_BYTES, "%s (%s)", rd_kafka_error_string(error), rd_kafka_error_name(error));
	if (rd_kafka_error_is_fatal(error))
		fail_for_good(producer, reason);
	else if (rd_kafka_error_txn_requires_abort(error))
	{
		strlcpy(producer->error, reason, ERROR_BYTES);
		producer->aborted = producer->sent > 0;
		start_call(producer, ABORTING);
	}
	else if (rd_kafka_error_is_retriable(error))
		start_call(producer, producer->stage);	/* librdkafka goes on where it stopped */
	else
		fail_for_good(producer, reason);
	rd_kafka_error_destroy(error);
}

PsProducer *
ps_producer_create(List *options, const char *topic, const char *transactional_id)
{
	PsProducer *producer = palloc0(sizeof(PsProducer));

	producer->topic = pstrdup(topic);
	ps_wakeup_pipe(producer->pipe);
	producer->transactions = ps_kafka_transactions(options);
	producer->rk = ps_kafka_create_producer(options, transactional_id);
	producer->queue = rd_kafka_queue_get_main(producer->rk);
	producer->log = ps_kafka_queue_logs(producer->rk, producer->pipe[1]);
	rd_kafka_queue_io_event_enable(producer->queue, producer->pipe[1], "x", 1);
	producer_extend_deadline(producer);
	ps_silence_init(&producer->silence, options);
	if (producer->transactions)
		ps_silence_ask(&producer->silence);
	start_call(producer, STARTING);
	return producer;
}

/* A side thread: ends the client, which may wait for Kafka. */
static void *
producer_destroy(void *arg)
{
	PsProducer *producer = arg;

	rd_kafka_queue_destroy(producer->log);
	rd_kafka_queue_destroy(producer->queue);
	rd_kafka_destroy(producer->rk);
	close(producer->pipe[0]);
	close(producer->pipe[1]);
	return NULL;
}

void
ps_producer_end(PsProducer *producer)
{
	Assert(producer->stage == READY && producer->n == 0);
	(void) ps_thread_start(producer_destroy, producer);
}

void
ps_producer_send(PsProducer *producer, const PsMessage *messages, int n)
{
	Assert(producer->n == 0);
	producer->messages = messages;
	producer->n = n;
	producer->sent = producer->answered = producer->refused = 0;
	producer->aborted = producer->too_large = false;
	producer->error[0] = '\0';
	producer_extend_deadline(producer);
}

void
ps_producer_discard(PsProducer *producer)
{
	producer->n = producer->sent = producer->aborted = 0;
	if (producer->stage == SENDING)
		start_call(producer, ABORTING);
}

/* Notes why the batch will be aborted. The first reason counts. */
static void
fail_batch(PsProducer *producer, rd_kafka_resp_err_t err)
{
	/* these follow from the first reason */
	if (err == RD_KAFKA_RESP_ERR__PURGE_QUEUE || err == RD_KAFKA_RESP_ERR__PURGE_INFLIGHT)
		;
	else if (producer->error[0] == '\0' || err == RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE)
		snprintf(producer->error, ERROR_BYTES, "%s (%s)", rd_kafka_err2str(err), rd_kafka_err2name(err));
	note_answer(producer, err);
	producer->too_large |= err == RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE;
	producer->aborted = true;
}

static void
take_reports(PsProducer *producer, rd_kafka_event_t *event)
{
	const rd_kafka_message_t *message;

	while ((message = rd_kafka_event_message_next(event)) != NULL)
	{
		if (producer->stage != SENDING)
			continue;			/* the batch was given up */
		producer->answered++;
		if (message->err != RD_KAFKA_RESP_ERR_NO_ERROR)
			fail_batch(producer, message->err);
		else
		{
			producer_extend_deadline(producer);
			ps_silence_end(&producer->silence, true);
		}
	}
}

/* Reads why a transaction has failed: librdkafka says so only in its log. */
static void
producer_take_log(PsProducer *producer, rd_kafka_event_t *event)
{
	const char *facility;
	const char *reason;
	int			level;

	if (rd_kafka_event_log(event, &facility, &reason, &level) != 0 || strcmp(facility, "TXNERR") != 0)
		return;
	strlcpy(producer->trouble, reason, ERROR_BYTES);
	if (producer->stage == SENDING && producer->error[0] == '\0')
		strlcpy(producer->error, reason, ERROR_BYTES);
}

static void
producer_take_error(PsProducer *producer, rd_kafka_event_t *event)
{
	rd_kafka_resp_err_t err = rd_kafka_event_error(event);
	char		reason[ERROR_BYTES];

	if (err == RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN && producer->trouble[0] != '\0')
		return;					/* the error of a broker tells more */
	if (err != RD_KAFKA_RESP_ERR__FATAL)
		snprintf(producer->trouble, ERROR_BYTES, "%s (%s)", rd_kafka_event_error_string(event), rd_kafka_err2name(err));
	else
	{
		err = rd_kafka_fatal_error(producer->rk, reason, sizeof(reason));
		snprintf(producer->trouble, ERROR_BYTES, "%.400s (%s)", reason, rd_kafka_err2name(err));
		/* otherwise the call that is under way returns the same error */
		if (producer->stage == READY || producer->stage == SENDING)
			fail_for_good(producer, producer->trouble);
	}
}

/* Takes what is in a queue: that of the events, or that of the log. */
static void
take_events(PsProducer *producer, rd_kafka_queue_t *queue)
{
	rd_kafka_event_t *event;

	while ((event = rd_kafka_queue_poll(queue, 0)) != NULL)
	{
		switch (rd_kafka_event_type(event))
		{
			case RD_KAFKA_EVENT_DR:
				take_reports(producer, event);
				break;
			case RD_KAFKA_EVENT_ERROR:
				producer_take_error(producer, event);
				break;
			case RD_KAFKA_EVENT_LOG:
				producer_take_log(producer, event);
				break;
			case RD_KAFKA_EVENT_OAUTHBEARER_TOKEN_REFRESH:
				ps_token_renew(producer->rk);
				break;
			default:
				break;
		}
		rd_kafka_event_destroy(event);
	}
}

/* Gives one message to librdkafka, which copies it. */
static rd_kafka_resp_err_t
producer_produce(PsProducer *producer, const PsMessage *message)
{
	rd_kafka_headers_t *headers = rd_kafka_headers_new(message->nheaders);
	rd_kafka_resp_err_t err;

	for (int i = 0; i < message->nheaders; i++)
		rd_kafka_header_add(headers, message->headers[i].name, -1, message->headers[i].value, message->headers[i].value_len);
	err = rd_kafka_producev(producer->rk,
							RD_KAFKA_V_TOPIC(producer->topic),
							RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY),
							RD_KAFKA_V_KEY(message->key, message->key_len),
							RD_KAFKA_V_VALUE(unconstify(char *, message->value), message->value_len),
							RD_KAFKA_V_HEADERS(headers),
							RD_KAFKA_V_END);
	if (err != RD_KAFKA_RESP_ERR_NO_ERROR)
		rd_kafka_headers_destroy(headers);
	return err;
}

/* Gives librdkafka as many messages as it takes. Ends the transaction once all are answered. */
static void
push_messages(PsProducer *producer)
{
	while (producer->sent < producer->n && !producer->aborted)
	{
		rd_kafka_resp_err_t err = producer_produce(producer, &producer->messages[producer->sent]);

		if (err == RD_KAFKA_RESP_ERR__QUEUE_FULL)
			return;
		if (err == RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE)
		{
			producer->refused++;
			producer->answered++;
		}
		else if (err != RD_KAFKA_RESP_ERR_NO_ERROR)
		{
			fail_batch(producer, err);
			break;
		}
		producer->sent++;
	}
	if (producer->answered == producer->sent && !producer->aborted)
		PS_FAILPOINT("relay_before_commit");
	if (producer->answered == producer->sent || producer->aborted)
		start_call(producer, producer->aborted ? ABORTING : COMMITTING);
}

/* Gives the producer up when Kafka does not answer for too long. */
static void
check_silence(PsProducer *producer)
{
	char		reason[ERROR_BYTES];

	if (producer->n > 0 && !producer->aborted)
		ps_silence_ask(&producer->silence);
	if (!ps_silence_is_too_long(&producer->silence) || producer->stage == SPENT)
		return;
	snprintf(reason, ERROR_BYTES, NO_ANSWER " for " INT64_FORMAT " s%s%.400s", producer->silence.us / 1000000,
			 producer->trouble[0] != '\0' ? ": " : "", producer->trouble);
	fail_for_good(producer, reason);
}

/* Empties the pipe; returns whether a call has ended. */
static bool
call_ended(PsProducer *producer)
{
	char		bytes[64];
	ssize_t		n;
	bool		ended = false;

	while ((n = read(producer->pipe[0], bytes, sizeof(bytes))) > 0)
		ended |= memchr(bytes, 't', n) != NULL;
	return ended;
}

PsProducerState
ps_producer_work(PsProducer *producer)
{
	bool		ended = call_ended(producer);

	take_events(producer, producer->log);
	take_events(producer, producer->queue);
	if (producer->stage == SPENT)
		return PS_PRODUCER_SPENT;
	if (ended)
		finish_call(producer);
	else if (producer->stage == ABORTING && !producer->transactions && rd_kafka_outq_len(producer->rk) == 0)
		producer_get_ready(producer);
	else if (producer->stage != READY && producer->stage != SENDING && ps_clock_now() > producer->overdue)
		fail_for_good(producer, "a call of librdkafka does not end");
	if (producer->stage == READY && producer->n > 0 && !producer->aborted)
		producer->stage = SENDING;
	if (producer->stage == SENDING)
		push_messages(producer);
	check_silence(producer);

	if (producer->stage == SPENT)
		return PS_PRODUCER_SPENT;
	if (producer->stage != READY)
		return PS_PRODUCER_BUSY;
	if (producer->aborted)
		return producer->too_large ? PS_PRODUCER_TOO_LARGE : PS_PRODUCER_FAILED;
	return PS_PRODUCER_IDLE;
}

int
ps_producer_wakeup_fd(const PsProducer *producer)
{
	return producer->pipe[0];
}

int
ps_producer_refused(const PsProducer *producer)
{
	return producer->refused;
}

const char *
ps_producer_error(PsProducer *producer, const char **hint)
{
	static char shown[ERROR_BYTES];
	const char *error = producer->error;

	*hint = NULL;
	if (producer->stage != SPENT && !(producer->stage == READY && producer->aborted))
	{
		if (ps_clock_now() < producer->deadline)
			return NULL;
		error = producer->trouble[0] != '\0' ? producer->trouble : NO_ANSWER " within 5 s";
		*hint = producer->transactions && producer->stage == STARTING && producer->trouble[0] == '\0'
			? "Check the brokers' addresses, and whether they have transactions. If they have none, set the option transactions to false." : ps_kafka_connect_hint(error);
	}
	else if (error[0] == '\0')
		error = "the transaction failed";
	else if (strncmp(error, NO_ANSWER, strlen(NO_ANSWER)) == 0)
		*hint = ps_kafka_connect_hint(error);
	for (int i = lengthof(known_errors) - 1; i >= 0; i--)
		if (strstr(error, known_errors[i].name) != NULL)
			*hint = known_errors[i].hint;
	ps_text_put(shown, ERROR_BYTES, error, strlen(error));
	return shown;
}

/*
 * redis_client.c
 *	  Writes profiles to Redis with hiredis, without blocking.
 *
 *	  A connection first sends its greeting: AUTH, SELECT, the script and its token. Then
 *	  it takes pipelines. Each item is one call of the script below, so that Redis compares
 *	  the versions and writes in one step.
 *
 *	  The token is against commands of a connection that was given up. They may wait in
 *	  the socket of a frozen Redis, and would bring back an erased profile later. So each
 *	  connection stores a token of its own in Redis, and the script refuses any other one.
 */
#include "postgres.h"

#include <hiredis.h>
#include <sys/socket.h>

#include "clock.h"
#include "core/text.h"
#include "miscadmin.h"
#include "sink/redis_client.h"
#include "storage/fd.h"
#include "storage/latch.h"
#include "utils/memutils.h"

#define CONNECT_MS 2000
#define ANSWER_MS 5000			/* Redis is silent for too long */
#define TOKEN_TTL "86400"		/* seconds; the token of a dropped stream expires */
#define MAX_GREETINGS 4
#define MAX_WORDS 10
#define MAX_ANSWER_SHOWN 200	/* bytes of an error that are shown */
#define MAX_ANSWER_BYTES 65536	/* of one answer: an error, a number or a hash is shorter */

/* KEYS: profile, token. ARGV: token, version, ttl, document ('' to delete). */
static const char script[] =
"if redis.call('GET', KEYS[2]) ~= ARGV[1] then return {err = 'FENCED'} end\n"
"if ARGV[4] == '' then redis.call('DEL', KEYS[1]) return 1 end\n"
"local found = redis.call('GET', KEYS[1])\n"
/* this finds the profile's own version: quotes in strings are escaped, and jsonb prints no object before this key */
"local version = found and string.match(found, '\"version\": ?(%d+)')\n"
"if version and tonumber(version) > tonumber(ARGV[2]) then return 0 end\n"
"redis.call('SET', KEYS[1], ARGV[4], 'EX', ARGV[3])\n"
"return 1\n";

typedef enum Phase
{
	CONNECTING,
	GREETING,
	READY,
	CLOSED
} Phase;

struct PsRedis
{
	const PsRedisTarget *target;
	const char *prefix;
	char		ttl[16];
	char	   *token_key;
	char		token[33];
	redisContext *context;
	Phase		phase;
	bool		unsent;			/* the output buffer is not empty */
	const char *greetings[MAX_GREETINGS];	/* the commands of the greeting */
	int			ngreetings;
	int			greeted;		/* so many of them are answered */
	char		script_sha[41];
	PsRedisItem *items;
	int			nitems;
	int			answered;
	PsMoment	deadline;
	char		error[256];
	const char *hint;
	MemoryContextCallback at_reset;
};

/* Closes the connection; also called when its memory context ends. */
static void
close_context(void *arg)
{
	PsRedis    *redis = arg;

	if (redis->context != NULL)
	{
		redisFree(redis->context);
		ReleaseExternalFD();
	}
	redis->context = NULL;
	redis->phase = CLOSED;
}

static PsRedisState
redis_client_fail(PsRedis *redis, const char *error, const char *hint)
{
	ps_text_put(redis->error, sizeof(redis->error), error, strlen(error));
	redis->hint = hint;
	close_context(redis);
	return PS_REDIS_FAILED;
}

/* Fails because of an error of the connection. */
static PsRedisState
fail_connection(PsRedis *redis, const char *reason)
{
	return redis_client_fail(redis, psprintf("%s Redis: %s", redis->phase == CONNECTING ? "could not connect to" : "lost the connection to", ps_text_of_error(reason)),
							 "Check the address, and that Redis is reachable from the database server.");
}

/*
 * Fails because of an error that Redis answered. Of an answer to AUTH only the code is
 * shown, because the text may have the password.
 */
static PsRedisState
fail_answer(PsRedis *redis, const char *command, const char *text)
{
	int			length = strcmp(command, "AUTH") == 0 ? strcspn(text, " ") : strcspn(text, "\r\n");
	const char *origin = strstr(text, " script: ");

	if (origin != NULL)
		length = Min(length, origin - text);
	return redis_client_fail(redis, psprintf("Redis refused %s: %s", command, ps_text_of_bytes(text, length, MAX_ANSWER_SHOWN)), ps_redis_hint(text));
}

static void
redis_client_extend_deadline(PsRedis *redis, int ms)
{
	redis->deadline = ps_moment_plus(ps_clock_now(), ms);
}

/* Adds a command to the output buffer: its words, then NULL. Returns the first word. */
static const char *
redis_client_append(PsRedis *redis,...)
{
	const char *words[MAX_WORDS];
	size_t		lengths[MAX_WORDS];
	int			n = 0;
	va_list		arguments;

	va_start(arguments, redis);
	while (n < MAX_WORDS && (words[n] = va_arg(arguments, const char *)) != NULL)
	{
		lengths[n] = strlen(words[n]);
		n++;
	}
	va_end(arguments);
	if (redisAppendCommandArgv(redis->context, n, words, lengths) != REDIS_OK)
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("out of memory for commands to Redis")));
	redis->unsent = true;
	return words[0];
}

/* Sends the greeting, which also ends older connections of this writer. */
static void
redis_client_greet(PsRedis *redis)
{
	const PsRedisTarget *target = redis->target;
	const char **next = redis->greetings;

	if (target->password != NULL && target->username != NULL)
		*next++ = redis_client_append(redis, "AUTH", target->username, target->password, NULL);
	else if (target->password != NULL)
		*next++ = redis_client_append(redis, "AUTH", target->password, NULL);
	if (target->database != 0)
		*next++ = redis_client_append(redis, "SELECT", psprintf("%d", target->database), NULL);
	*next++ = redis_client_append(redis, "SCRIPT", "LOAD", script, NULL);
	*next++ = redis_client_append(redis, "SET", redis->token_key, redis->token, "EX", TOKEN_TTL, NULL);
	redis->ngreetings = next - redis->greetings;
	redis->phase = GREETING;
	redis_client_extend_deadline(redis, ANSWER_MS);
}

/* Adds the pipeline to the output buffer. */
static void
append_items(PsRedis *redis)
{
	for (int i = 0; i < redis->nitems; i++)
	{
		const PsRedisItem *item = &redis->items[i];
		char	   *key = psprintf("%s%s", redis->prefix, item->customer_id);
		char		version[24];

		snprintf(version, sizeof(version), INT64_FORMAT, item->version);
		redis_client_append(redis, "EVALSHA", redis->script_sha, "2", key, redis->token_key, redis->token, version, redis->ttl,
							item->document != NULL ? item->document : "", NULL);
		pfree(key);
	}
}

PsRedis *
ps_redis_open(const PsRedisTarget *target, const char *prefix, int ttl_s, const char *writer)
{
	PsRedis    *redis = palloc0(sizeof(PsRedis));
	uint8		random[16];

	if (!pg_strong_random(random, sizeof(random)))
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("could not generate random values")));
	for (int i = 0; i < sizeof(random); i++)
		snprintf(redis->token + 2 * i, 3, "%02x", random[i]);
	redis->target = target;
	redis->prefix = prefix;
	snprintf(redis->ttl, sizeof(redis->ttl), "%d", ttl_s);
	redis->token_key = psprintf("profile_stream:%s", writer);
	redis->at_reset.func = close_context;
	redis->at_reset.arg = redis;
	MemoryContextRegisterResetCallback(CurrentMemoryContext, &redis->at_reset);

	redis->context = target->unix_socket != NULL ? redisConnectUnixNonBlock(target->unix_socket)
		: redisConnectNonBlock(target->host, target->port);
	if (redis->context != NULL)
		ReserveExternalFD();
	if (redis->context == NULL)
		(void) fail_connection(redis, "out of memory");
	else if (redis->context->err != 0)
		(void) fail_connection(redis, redis->context->errstr);
	redis_client_extend_deadline(redis, CONNECT_MS);
	return redis;
}

void
ps_redis_send(PsRedis *redis, PsRedisItem *items, int n)
{
	Assert(redis->answered == redis->nitems);
	redis->items = items;
	redis->nitems = n;
	redis->answered = 0;
	for (int i = 0; i < n; i++)
		items[i].result = PS_REDIS_WAITING;
	if (redis->phase == READY)
	{
		append_items(redis);
		redis_client_extend_deadline(redis, ANSWER_MS);
	}
}

/* Takes the answer to the next command of the greeting. After the last one the pipeline is sent. */
static PsRedisState
take_greeting(PsRedis *redis, const redisReply * reply)
{
	const char *command = redis->greetings[redis->greeted++];

	if (reply->type == REDIS_REPLY_ERROR)
		return fail_answer(redis, command, reply->str);
	if (strcmp(command, "SCRIPT") == 0)
	{
		if (reply->type != REDIS_REPLY_STRING || reply->len != sizeof(redis->script_sha) - 1)
			return redis_client_fail(redis, "Redis answered what was not asked", NULL);
		memcpy(redis->script_sha, reply->str, sizeof(redis->script_sha));
	}
	if (redis->greeted == redis->ngreetings)
	{
		redis->phase = READY;
		append_items(redis);
	}
	return PS_REDIS_BUSY;
}

/* Takes the answer to the next item. A key of another type fails alone, any other error fails the connection. */
static PsRedisState
redis_client_take_result(PsRedis *redis, const redisReply * reply)
{
	PsRedisItem *item = &redis->items[redis->answered];

	if (redis->answered == redis->nitems)
		return redis_client_fail(redis, "Redis answered what was not asked", NULL);
	if (reply->type == REDIS_REPLY_ERROR && strstr(reply->str, "WRONGTYPE") == NULL)
		return fail_answer(redis, "a profile", reply->str);
	if (reply->type == REDIS_REPLY_ERROR)
		item->result = PS_REDIS_FOREIGN;
	else
		item->result = reply->type == REDIS_REPLY_INTEGER && reply->integer == 0 ? PS_REDIS_NEWER : PS_REDIS_WRITTEN;
	redis->answered++;
	return PS_REDIS_BUSY;
}

/* Why the bytes that were read cannot be an answer, NULL when they can. None of our commands has an array as answer. */
static const char *
find_strange(const redisReader * reader)
{
	if (reader->ridx < 0 && reader->pos < reader->len && strchr("+-:$", reader->buf[reader->pos]) == NULL)
		return "Redis answered what was not asked";
	if (reader->len - reader->pos > MAX_ANSWER_BYTES)
		return "Redis sent an answer without an end";
	return NULL;
}

/* Reads from the socket, and takes each answer that is complete. */
static PsRedisState
read_answers(PsRedis *redis)
{
	PsRedisState state = PS_REDIS_BUSY;
	void	   *reply;

	if (redisBufferRead(redis->context) != REDIS_OK)
		return fail_connection(redis, redis->context->errstr);
	while (state == PS_REDIS_BUSY)
	{
		const char *strange = find_strange(redis->context->reader);

		if (strange != NULL)
			return redis_client_fail(redis, strange, "Check the address: what answers there is no Redis, or is broken.");
		if (redisGetReplyFromReader(redis->context, &reply) != REDIS_OK)
			return fail_connection(redis, redis->context->errstr);
		if (reply == NULL)
			break;
		redis_client_extend_deadline(redis, ANSWER_MS);
		state = redis->phase == GREETING ? take_greeting(redis, reply) : redis_client_take_result(redis, reply);
		freeReplyObject(reply);
	}
	return state;
}

/* The socket has become writable: the connection is made, or has failed. */
static PsRedisState
redis_client_finish_connecting(PsRedis *redis)
{
	int			error = 0;
	socklen_t	length = sizeof(error);

	if (getsockopt(redis->context->fd, SOL_SOCKET, SO_ERROR, &error, &length) < 0)
		error = errno;
	if (error != 0)
		return fail_connection(redis, strerror(error));
	redis_client_greet(redis);
	return PS_REDIS_BUSY;
}

static PsRedisState
state_of(PsRedis *redis)
{
	if (redis->phase == CLOSED)
		return PS_REDIS_FAILED;
	return redis->phase == READY && redis->answered == redis->nitems ? PS_REDIS_IDLE : PS_REDIS_BUSY;
}

PsRedisState
ps_redis_work(PsRedis *redis, int ready)
{
	int			done = 0;

	if (redis->phase == CLOSED)
		return PS_REDIS_FAILED;
	if (redis->phase == CONNECTING && (ready & WL_SOCKET_WRITEABLE) && redis_client_finish_connecting(redis) == PS_REDIS_FAILED)
		return PS_REDIS_FAILED;
	if (redis->phase != CONNECTING && (ready & WL_SOCKET_READABLE) && read_answers(redis) == PS_REDIS_FAILED)
		return PS_REDIS_FAILED;
	if (redis->unsent)
	{
		if (redisBufferWrite(redis->context, &done) != REDIS_OK)
			return fail_connection(redis, redis->context->errstr);
		redis->unsent = !done;
	}
	if (state_of(redis) == PS_REDIS_BUSY && ps_clock_now() >= redis->deadline)
		return fail_connection(redis, redis->phase == CONNECTING ? "no answer within 2 s" : "no answer within 5 s");
	return state_of(redis);
}

pgsocket
ps_redis_socket(PsRedis *redis)
{
	return redis->phase == CLOSED ? PGINVALID_SOCKET : redis->context->fd;
}

int
ps_redis_events(PsRedis *redis)
{
	if (redis->phase == CLOSED)
		return 0;
	if (redis->phase == CONNECTING)
		return WL_SOCKET_WRITEABLE;
	return WL_SOCKET_READABLE | (redis->unsent ? WL_SOCKET_WRITEABLE : 0);
}

long
ps_redis_timeout_ms(PsRedis *redis)
{
	return state_of(redis) == PS_REDIS_IDLE ? -1 : (long) ps_clock_left(redis->deadline);
}

const char *
ps_redis_error(PsRedis *redis, const char **hint)
{
	*hint = redis->hint;
	return redis->error;
}

void
ps_redis_close(PsRedis *redis)
{
	close_context(redis);
}

/*
 * redis_client.c
 *	  Writes profiles to Redis with hiredis, without blocking.
 *
 *	  Where the primary is known to Sentinels, these are asked first, one after the other,
 *	  each over a connection of its own.
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
#include "common/pg_prng.h"
#include "core/text.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "sink/redis_client.h"
#include "sink/redis_socket.h"
#include "storage/fd.h"
#include "storage/latch.h"
#include "utils/memutils.h"

#define CONNECT_MS 2000
#define ANSWER_MS 5000			/* Redis is silent for too long */
#define TOKEN_TTL "86400"		/* seconds; the token of a dropped stream expires */
#define GREETINGS 5				/* and one for each writer that is shut out */
#define MAX_WORDS 10
#define READ_BYTES 16384
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
	SECURING,					/* the TLS handshake */
	ASKING,						/* a Sentinel for the primary */
	GREETING,
	READY,
	CLOSED
} Phase;

struct PsRedis
{
	MemoryContext memory;		/* of the connection */
	const PsRedisTarget *target;
	const char *prefix;
	char		ttl[16];
	char	   *token_key;
	char		token[33];
	redisContext *context;		/* connects and reads answers */
	PsTls	   *tls;			/* NULL: none */
	const char *host;			/* of this connection; NULL: a socket */
	StringInfoData output;		/* commands that are not sent yet, from position sent on */
	int			sent;
	bool		to_sentinel;	/* this connection is to a Sentinel */
	int			next_sentinel;
	int			untried;		/* Sentinels */
	Phase		phase;
	List	   *others;			/* names of writers that are shut out */
	const char **greetings;		/* the commands of the greeting */
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

	if (redis->tls != NULL)
		ps_tls_close(redis->tls);
	redis->tls = NULL;
	if (redis->context != NULL)
	{
		redisFree(redis->context);
		ReleaseExternalFD();
	}
	redis->context = NULL;
	redis->phase = CLOSED;
}

static PsRedisState begin_next(PsRedis *redis);

/* Fails; but when it was a Sentinel that failed, the next one is asked. */
static PsRedisState
redis_client_fail(PsRedis *redis, const char *error, const char *hint)
{
	if (redis->to_sentinel)
	{
		error = psprintf("no Sentinel tells where \"%s\" is: %s", redis->target->sentinel_service, error);
		if (hint == NULL)
			hint = "Check the addresses of the Sentinels, and the name that they have for the primary.";
	}
	ps_text_put(redis->error, sizeof(redis->error), error, strlen(error));
	redis->hint = hint;
	close_context(redis);
	if (redis->to_sentinel && redis->untried > 0)
		return begin_next(redis);
	return PS_REDIS_FAILED;
}

/* Fails because of an error of the connection. */
static PsRedisState
fail_connection(PsRedis *redis, const char *reason)
{
	const char *what = redis->phase == CONNECTING ? "could not connect to" : redis->phase == SECURING ? "could not make a TLS connection to" : "lost the connection to";
	const char *hint = redis->phase == SECURING ? "Check the options ssl... of the server, and that Redis takes TLS on this port." : "Check the address, and that Redis is reachable from the database server.";

	return redis_client_fail(redis, psprintf("%s Redis: %s", what, ps_text_of_error(reason)), hint);
}

/*
 * Fails because of an error that Redis answered. If that is the answer to AUTH, it shows
 * only the code, because the text may have the password.
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
	char	   *command;
	long long	size;

	va_start(arguments, redis);
	while (n < MAX_WORDS && (words[n] = va_arg(arguments, const char *)) != NULL)
	{
		lengths[n] = strlen(words[n]);
		n++;
	}
	va_end(arguments);
	size = redisFormatCommandArgv(&command, n, words, lengths);
	if (size < 0)
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("out of memory for commands to Redis")));
	if (redis->sent == redis->output.len)
	{
		resetStringInfo(&redis->output);
		redis->sent = 0;
	}
	appendBinaryStringInfo(&redis->output, command, (int) size);
	redisFreeCommand(command);
	return words[0];
}

/* Adds AUTH, if there is a password; returns where the next command of the greeting goes. */
static const char **
append_auth(PsRedis *redis, const char **next, const char *username, const char *password)
{
	if (password != NULL && username != NULL)
		*next++ = redis_client_append(redis, "AUTH", username, password, NULL);
	else if (password != NULL)
		*next++ = redis_client_append(redis, "AUTH", password, NULL);
	return next;
}

/* The key in Redis that has the token of a writer's newest connection. */
static char *
key_of_token(const char *writer)
{
	return psprintf("profile_stream:%s", writer);
}

/* Sends the greeting, which also ends older connections of this writer; or asks a Sentinel. */
static void
redis_client_greet(PsRedis *redis)
{
	const PsRedisTarget *target = redis->target;
	const char **next = redis->greetings;
	ListCell   *cell;

	if (redis->to_sentinel)
	{
		next = append_auth(redis, next, target->sentinel_username, target->sentinel_password);
		*next++ = redis_client_append(redis, "SENTINEL", "get-master-addr-by-name", target->sentinel_service, NULL);
	}
	else
	{
		next = append_auth(redis, next, target->username, target->password);
		if (target->database != 0)
			*next++ = redis_client_append(redis, "SELECT", psprintf("%d", target->database), NULL);
		*next++ = redis_client_append(redis, "SCRIPT", "LOAD", script, NULL);

		/*
		 * these keys are never there; a Redis of a cluster refuses two that are of different slots, as the script's
		 * are
		 */
		*next++ = redis_client_append(redis, "DEL", "profile_stream:a", "profile_stream:b", NULL);
		*next++ = redis_client_append(redis, "SET", redis->token_key, redis->token, "EX", TOKEN_TTL, NULL);
		foreach(cell, redis->others)
			* next++ = redis_client_append(redis, "SET", key_of_token(lfirst(cell)), redis->token, "EX", TOKEN_TTL, NULL);
	}
	redis->ngreetings = next - redis->greetings;
	redis->greeted = 0;
	redis->phase = redis->to_sentinel ? ASKING : GREETING;
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

/* Begins to connect to an address, or to the socket of the target where host is NULL. */
static PsRedisState
redis_client_begin(PsRedis *redis, const char *host, int port)
{
	close_context(redis);
	redis->phase = CONNECTING;
	redis->host = host;
	redis->context = host == NULL ? redisConnectUnixNonBlock(redis->target->unix_socket) : redisConnectNonBlock(host, port);
	resetStringInfo(&redis->output);
	redis->sent = 0;
	if (redis->context != NULL)
		ReserveExternalFD();
	redis_client_extend_deadline(redis, CONNECT_MS);
	if (redis->context == NULL)
		return fail_connection(redis, "out of memory");
	if (redis->context->err != 0)
		return fail_connection(redis, redis->context->errstr);
	return PS_REDIS_BUSY;
}

/* Begins to connect: to the next Sentinel, or to Redis where there are none. */
static PsRedisState
begin_next(PsRedis *redis)
{
	const PsRedisTarget *target = redis->target;
	const PsRedisAddress *sentinel;

	if (target->nsentinels == 0)
		return redis_client_begin(redis, target->unix_socket != NULL ? NULL : target->host, target->port);
	sentinel = &target->sentinels[redis->next_sentinel];
	redis->next_sentinel = (redis->next_sentinel + 1) % target->nsentinels;
	redis->untried--;
	redis->to_sentinel = true;
	return redis_client_begin(redis, sentinel->host, sentinel->port);
}

PsRedis *
ps_redis_open(const PsRedisTarget *target, const char *prefix, int ttl_s, const char *writer, List *others)
{
	PsRedis    *redis = palloc0(sizeof(PsRedis));
	uint8		random[16];

	if (!pg_strong_random(random, sizeof(random)))
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("could not generate random values")));
	for (int i = 0; i < sizeof(random); i++)
		snprintf(redis->token + 2 * i, 3, "%02x", random[i]);
	redis->memory = CurrentMemoryContext;
	redis->target = target;
	redis->prefix = prefix;
	snprintf(redis->ttl, sizeof(redis->ttl), "%d", ttl_s);
	redis->token_key = key_of_token(writer);
	redis->others = others;
	redis->greetings = palloc((GREETINGS + list_length(others)) * sizeof(char *));
	redis->at_reset.func = close_context;
	redis->at_reset.arg = redis;
	MemoryContextRegisterResetCallback(CurrentMemoryContext, &redis->at_reset);

	initStringInfo(&redis->output);
	redis->untried = target->nsentinels;
	/* not all servers ask the same Sentinel first */
	if (target->nsentinels > 0)
		redis->next_sentinel = pg_prng_uint64_range(&pg_global_prng_state, 0, target->nsentinels - 1);
	(void) begin_next(redis);
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

/* Takes the answer of a Sentinel: the address of the primary, to which it connects then. */
static PsRedisState
take_address(PsRedis *redis, const redisReply * reply)
{
	const char *command = redis->greetings[redis->greeted++];
	int			port;

	if (reply->type == REDIS_REPLY_ERROR)
		return fail_answer(redis, command, reply->str);
	if (redis->greeted < redis->ngreetings)
		return PS_REDIS_BUSY;
	if (reply->type == REDIS_REPLY_NIL)
		return redis_client_fail(redis, "it does not know the name", NULL);
	if (reply->type != REDIS_REPLY_ARRAY || reply->elements != 2 || reply->element[0]->type != REDIS_REPLY_STRING ||
		reply->element[1]->type != REDIS_REPLY_STRING || (port = atoi(reply->element[1]->str)) < 1 || port > 65535)
		return redis_client_fail(redis, "Redis answered what was not asked", NULL);
	redis->to_sentinel = false;
	return redis_client_begin(redis, pstrdup(reply->element[0]->str), port);
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

/* Whether an answer may begin so: none of our commands has an array as answer, but for the two parts of an address. */
static bool
may_begin(const PsRedis *redis, const char *bytes, int len)
{
	if (*bytes != '*')
		return strchr("+-:$", *bytes) != NULL;
	return redis->phase == ASKING && (strncmp(bytes, "*2\r\n", Min(len, 4)) == 0 || strncmp(bytes, "*-1\r\n", Min(len, 5)) == 0);
}

/* Why the bytes that were read cannot be an answer, NULL when they can. */
static const char *
find_strange(const PsRedis *redis)
{
	const		redisReader *reader = redis->context->reader;

	if (reader->ridx < 0 && reader->pos < reader->len && !may_begin(redis, reader->buf + reader->pos, reader->len - reader->pos))
		return "Redis answered what was not asked";
	if (reader->len - reader->pos > MAX_ANSWER_BYTES)
		return "Redis sent an answer without an end";
	return NULL;
}

/* Sends what is left of the output; false: the connection failed. */
static bool
write_output(PsRedis *redis, const char **error)
{
	int			n = 1;

	while (n > 0 && redis->sent < redis->output.len)
	{
		n = ps_redis_transmit(redis->tls, redis->context->fd, redis->output.data + redis->sent, redis->output.len - redis->sent, error);
		redis->sent += Max(n, 0);
	}
	return n >= 0;
}

/* Takes an answer. */
static PsRedisState
redis_client_take_answer(PsRedis *redis, const redisReply * reply)
{
	if (redis->phase == ASKING)
		return take_address(redis, reply);
	return redis->phase == GREETING ? take_greeting(redis, reply) : redis_client_take_result(redis, reply);
}

/* Reads from the socket, and takes each answer that is complete. */
static PsRedisState
read_answers(PsRedis *redis)
{
	redisContext *context = redis->context;
	PsRedisState state = PS_REDIS_BUSY;
	const char *error = "out of memory";
	char		bytes[READ_BYTES];
	int			n = ps_redis_receive(redis->tls, context->fd, bytes, sizeof(bytes), &error);
	void	   *reply;

	if (n < 0 || (n > 0 && redisReaderFeed(context->reader, bytes, n) != REDIS_OK))
		return fail_connection(redis, error);
	/* the answer of a Sentinel ends this connection and begins another one */
	while (state == PS_REDIS_BUSY && redis->context == context)
	{
		const char *strange = find_strange(redis);

		if (strange != NULL)
			return redis_client_fail(redis, strange, "Check the address: what answers there is no Redis, or is broken.");
		if (redisGetReplyFromReader(context, &reply) != REDIS_OK)
			return fail_connection(redis, context->errstr);
		if (reply == NULL)
			break;
		redis_client_extend_deadline(redis, ANSWER_MS);
		state = redis_client_take_answer(redis, reply);
		freeReplyObject(reply);
	}
	return state;
}

/* Goes on with the TLS handshake; when it is done, the greeting is sent. */
static PsRedisState
redis_client_secure(PsRedis *redis)
{
	int			done = ps_tls_handshake(redis->tls);

	if (done == PS_TLS_FAILED)
		return fail_connection(redis, ps_tls_error(redis->tls));
	if (done != PS_TLS_AGAIN)
		redis_client_greet(redis);
	return PS_REDIS_BUSY;
}

/* The socket has become writable: the connection is made, or has failed. */
static PsRedisState
redis_client_finish_connecting(PsRedis *redis)
{
	int			error = 0;
	socklen_t	length = sizeof(error);
	MemoryContext old;

	if (getsockopt(redis->context->fd, SOL_SOCKET, SO_ERROR, &error, &length) < 0)
		error = errno;
	if (error != 0)
		return fail_connection(redis, strerror(error));
	if (redis->target->sslmode == PS_SSL_DISABLE)
	{
		redis_client_greet(redis);
		return PS_REDIS_BUSY;
	}
	redis->phase = SECURING;
	redis_client_extend_deadline(redis, CONNECT_MS);
	old = MemoryContextSwitchTo(redis->memory);
	redis->tls = ps_tls_open(redis->target, redis->host, redis->context->fd);
	MemoryContextSwitchTo(old);
	return redis_client_secure(redis);
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
	PsRedisState state = PS_REDIS_BUSY;
	const char *error;

	if (redis->phase == CLOSED)
		return PS_REDIS_FAILED;
	if (redis->phase == CONNECTING && (ready & WL_SOCKET_WRITEABLE))
		state = redis_client_finish_connecting(redis);
	else if (redis->phase == SECURING)
		state = redis_client_secure(redis);
	else if (redis->phase != CONNECTING && (ready & WL_SOCKET_READABLE))
		state = read_answers(redis);
	if (state == PS_REDIS_FAILED)
		return state;
	if (redis->phase > SECURING && !write_output(redis, &error) && fail_connection(redis, error) == PS_REDIS_FAILED)
		return PS_REDIS_FAILED;
	if (state_of(redis) == PS_REDIS_BUSY && ps_clock_now() >= redis->deadline)
		(void) fail_connection(redis, redis->phase <= SECURING ? "no answer within 2 s" : "no answer within 5 s");
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
	if (redis->phase == SECURING || (redis->tls != NULL && redis->sent < redis->output.len))
		return WL_SOCKET_READABLE | (ps_tls_waits_to_write(redis->tls) ? WL_SOCKET_WRITEABLE : 0);
	return WL_SOCKET_READABLE | (redis->sent < redis->output.len ? WL_SOCKET_WRITEABLE : 0);
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

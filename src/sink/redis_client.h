/*
 * redis_client.h
 *	  A connection that writes profiles to Redis. It never blocks: its owner waits for the
 *	  socket and then calls ps_redis_work().
 *
 *	  pipeline    the items of one call of ps_redis_send(); all are sent before the first answer
 *	  token       a random value that lets only the newest connection of a writer write
 */
#ifndef PS_REDIS_CLIENT_H
#define PS_REDIS_CLIENT_H

#include "postgres.h"

#include "nodes/pg_list.h"
#include "sink/redis_options.h"

typedef enum PsRedisResult
{
	PS_REDIS_WAITING = 0,		/* no answer yet */
	PS_REDIS_WRITTEN,			/* written or deleted */
	PS_REDIS_NEWER,				/* Redis has a newer version, and keeps it */
	PS_REDIS_FOREIGN			/* the key holds something else than a profile, and keeps it */
} PsRedisResult;

typedef struct PsRedisItem
{
	const char *customer_id;
	int64		version;
	const char *document;		/* printed by jsonb, with a version; NULL: the key is deleted */
	PsRedisResult result;
} PsRedisItem;

typedef enum PsRedisState
{
	PS_REDIS_IDLE,				/* connected, and everything is answered */
	PS_REDIS_BUSY,
	PS_REDIS_FAILED				/* closed; error and hint say why */
} PsRedisState;

typedef struct PsRedis PsRedis;

/*
 * Begins to connect. The end of the current memory context closes the connection. If one
 * writer has several connections, only the newest may write; of the others (texts) none of
 * those that are open may. The arguments must live as long as the connection.
 */
extern PsRedis *ps_redis_open(const PsRedisTarget *target, const char *prefix, int ttl_s, const char *writer, List *others);

/* Hands over a pipeline, one at a time. It must live until it is answered. */
extern void ps_redis_send(PsRedis *redis, PsRedisItem *items, int n);

/* Goes on; ready is what WaitLatchOrSocket() returned, or 0. */
extern PsRedisState ps_redis_work(PsRedis *redis, int ready);

/* What to wait for: the socket, its events, and the longest wait. */
extern pgsocket ps_redis_socket(PsRedis *redis);
extern int	ps_redis_events(PsRedis *redis);
extern long ps_redis_timeout_ms(PsRedis *redis);

/* Why the connection failed. The hint is NULL when there is none. */
extern const char *ps_redis_error(PsRedis *redis, const char **hint);

/* redis_errors.c: the hint for an error that Redis answered, NULL when there is none. */
extern const char *ps_redis_hint(const char *error);

extern void ps_redis_close(PsRedis *redis);

#endif							/* PS_REDIS_CLIENT_H */

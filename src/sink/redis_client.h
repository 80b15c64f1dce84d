/*
 * redis_client.h
 *	  A connection that writes profiles to Redis and never blocks: whoever owns it
 *	  waits for its socket, and lets it work when the socket is ready.
 *
 *	  pipeline    the items that one call hands over, all sent before the first is answered
 *	  token       says which connection may write: the one that came last
 */
#ifndef PS_REDIS_CLIENT_H
#define PS_REDIS_CLIENT_H

#include "postgres.h"

#include "sink/redis_options.h"

typedef enum PsRedisResult
{
	PS_REDIS_WAITING = 0,		/* not answered: to be sent again */
	PS_REDIS_WRITTEN,			/* or deleted */
	PS_REDIS_NEWER,				/* a newer version is there, and stays */
	PS_REDIS_FOREIGN			/* the key holds something else, and keeps it */
} PsRedisResult;

typedef struct PsRedisItem
{
	const char *customer_id;
	int64		version;
	const char *document;		/* as jsonb prints it, with the version; NULL: delete the key */
	PsRedisResult result;
} PsRedisItem;

typedef enum PsRedisState
{
	PS_REDIS_IDLE,				/* connected, everything answered */
	PS_REDIS_BUSY,
	PS_REDIS_FAILED				/* closed; error and hint say why */
} PsRedisState;

typedef struct PsRedis PsRedis;

/* Raises, with a hint, where this build has no hiredis. */
extern void ps_redis_check_built(void);

/*
 * Begins to connect, in the current memory context, whose end closes it. The
 * writer's name is the same for connections of which only one may write.
 * The target, the prefix and the name must live as long.
 */
extern PsRedis *ps_redis_open(const PsRedisTarget *target, const char *prefix, int ttl_s, const char *writer);

/* Hands over a pipeline, which must live until it is answered; one at a time. */
extern void ps_redis_send(PsRedis *redis, PsRedisItem *items, int n);

/* Goes on after WaitLatchOrSocket() said what is ready: 0 when the time was up. */
extern PsRedisState ps_redis_work(PsRedis *redis, int ready);

/* What to wait for: socket, events of the socket, and how long at most. */
extern pgsocket ps_redis_socket(PsRedis *redis);
extern int	ps_redis_events(PsRedis *redis);
extern long ps_redis_timeout_ms(PsRedis *redis);

/* Why it failed; the hint is NULL when there is none. */
extern const char *ps_redis_error(PsRedis *redis, const char **hint);

/* redis_errors.c: what may be done about an error that Redis answered, NULL when nothing is known. */
extern const char *ps_redis_hint(const char *error);

extern void ps_redis_close(PsRedis *redis);

#endif							/* PS_REDIS_CLIENT_H */

/*
 * redis_missing.c
 *	  Stands for redis_client.c where hiredis was not there at build time: no
 *	  connection can be opened, so that nothing but opening one says so.
 */
#include "postgres.h"

#include "sink/redis_client.h"

void
ps_redis_check_built(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("this build of profile_stream has no Redis"),
			 errhint("Install hiredis (Debian: libhiredis-dev) and build again with WITH_REDIS=yes.")));
}

PsRedis *
ps_redis_open(const PsRedisTarget *target, const char *prefix, int ttl_s, const char *writer)
{
	ps_redis_check_built();
	return NULL;
}

void
ps_redis_send(PsRedis *redis, PsRedisItem *items, int n)
{
}

PsRedisState
ps_redis_work(PsRedis *redis, int ready)
{
	return PS_REDIS_FAILED;
}

pgsocket
ps_redis_socket(PsRedis *redis)
{
	return PGINVALID_SOCKET;
}

int
ps_redis_events(PsRedis *redis)
{
	return 0;
}

long
ps_redis_timeout_ms(PsRedis *redis)
{
	return 0;
}

const char *
ps_redis_error(PsRedis *redis, const char **hint)
{
	*hint = NULL;
	return "";
}

void
ps_redis_close(PsRedis *redis)
{
}

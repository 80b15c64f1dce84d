/*
 * redis_errors.c
 *	  Hints for the errors of Redis.
 */
#include "postgres.h"

#include "sink/redis_client.h"

#define CLUSTER_HINT "Redis Cluster is not supported: name a Redis that is no part of a cluster, or Sentinels."

/* The first word of an error, and the hint for it. */
static const struct
{
	const char *code;
	const char *hint;
}			known_errors[] = {
	{"NOAUTH", "Set username and password in a user mapping for the server."},
	{"WRONGPASS", "Correct username and password in the user mapping."},
	{"NOPERM", "The Redis user needs GET, SET, DEL, EVALSHA and SCRIPT LOAD on the keys of the prefix and on profile_stream:*."},
	{"OOM", "Redis is out of memory: raise maxmemory, or choose a maxmemory-policy that evicts."},
	{"READONLY", "This Redis is a replica: name its primary, or its Sentinels."},
	{"MOVED", CLUSTER_HINT},
	{"CROSSSLOT", CLUSTER_HINT},
	{"CLUSTERDOWN", CLUSTER_HINT},
	{"ASK ", CLUSTER_HINT},
	{"TRYAGAIN", CLUSTER_HINT},
	{"NOREPLICAS", "This Redis takes writes only while it has replicas: see min-replicas-to-write. The relay tries again."},
	{"LOADING", "Redis is still reading its data. The relay goes on by itself."},
	{"FENCED", "Another relay of this stream writes to the same Redis, Redis was emptied, or another node of Citus got a shard of this one. The relay tries again."},
};

const char *
ps_redis_hint(const char *error)
{
	for (int i = 0; i < lengthof(known_errors); i++)
		if (strncmp(error, known_errors[i].code, strlen(known_errors[i].code)) == 0)
			return known_errors[i].hint;
	return NULL;
}

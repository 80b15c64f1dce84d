/*
 * partitioner.c
 *	  The hashes of Kafka's producers, and of Citus. librdkafka does not export its own
 *	  without a producer that is connected.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "core/partitioner.h"
#include "utils/pg_crc.h"

#define MURMUR2_SEED 0x9747b28c
#define MURMUR2_FACTOR 0x5bd1e995

static uint32
murmur2_mix(uint32 word)
{
	word *= MURMUR2_FACTOR;
	word ^= word >> 24;
	return word * MURMUR2_FACTOR;
}

/* MurmurHash2 as org.apache.kafka.common.utils.Utils has it: words are little-endian on every machine. */
static uint32
murmur2_hash(const unsigned char *bytes, int len)
{
	uint32		hash = MURMUR2_SEED ^ (uint32) len;
	int			rest = len & 3;

	for (; len >= 4; len -= 4, bytes += 4)
		hash = hash * MURMUR2_FACTOR ^
			murmur2_mix(bytes[0] | (uint32) bytes[1] << 8 | (uint32) bytes[2] << 16 | (uint32) bytes[3] << 24);
	for (int i = rest - 1; i >= 0; i--)
		hash ^= (uint32) bytes[i] << (8 * i);
	if (rest > 0)
		hash *= MURMUR2_FACTOR;
	hash ^= hash >> 13;
	hash *= MURMUR2_FACTOR;
	return hash ^ hash >> 15;
}

static uint32
crc32_hash(const char *bytes, int len)
{
	pg_crc32	crc;

	INIT_TRADITIONAL_CRC32(crc);
	COMP_TRADITIONAL_CRC32(crc, bytes, len);
	FIN_TRADITIONAL_CRC32(crc);
	return crc;
}

int32
ps_partitioner_citus_hash(const char *key, int len)
{
	return (int32) hash_bytes((const unsigned char *) key, len);
}

/* Each partition has equally many hashes, as a shard of Citus; the last one has the rest, too. */
static int32
citus_partition(const char *key, int len, int32 npartitions)
{
	uint64		hash = (uint64) ((int64) ps_partitioner_citus_hash(key, len) - PG_INT32_MIN);
	uint64		each = (UINT64CONST(1) << 32) / npartitions;

	return (int32) Min(hash / each, npartitions - 1);
}

bool
ps_partitioner_find(const char *name, PsPartitioner *partitioner)
{
	static const char *const names[] = {"murmur2", "consistent", "citus"};

	for (int i = 0; i < lengthof(names); i++)
	{
		if (strcmp(name, names[i]) != 0)
			continue;
		*partitioner = (PsPartitioner) i;
		return true;
	}
	return false;
}

int32
ps_partitioner_choose(PsPartitioner partitioner, const char *key, int len, int32 npartitions)
{
	if (partitioner == PS_PARTITIONER_CITUS)
		return citus_partition(key, len, npartitions);
	if (partitioner == PS_PARTITIONER_CONSISTENT)
		return (int32) (crc32_hash(key, len) % (uint32) npartitions);
	return (int32) (murmur2_hash((const unsigned char *) key, len) & 0x7fffffff) % npartitions;
}

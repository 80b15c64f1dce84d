/*
 * life.c
 *	  The state of a worker's life, and all its changes:
 *
 *	  from				to				function				when
 *	  STARTING			CONNECTING		ps_life_started			it is the stream's worker and has read the stream
 *	  CONNECTING		LOOKING_UP		ps_life_connected		it has a client of Kafka
 *	  LOOKING_UP		READING			ps_life_assigned		the answer is taken into the catalog and assigned
 *	  READING, BLOCKED	LOOKING_UP		ps_life_look_up			offsets or leases moved, or the topic may be another one
 *	  READING			BLOCKED			ps_life_set_blocked		deferred messages fill the memory
 *	  BLOCKED			READING			ps_life_set_blocked		there is room again
 *	  all but STOPPING	BACKING_OFF		ps_life_back_off		after an error
 *	  BACKING_OFF		STARTING, CONNECTING or LOOKING_UP
 *										ps_life_turn			the time of the next attempt has come
 *										ps_life_go_on			the stream was altered
 *	  READING, BLOCKED	STOPPING		ps_life_stop			it is told to end and holds messages
 *	  STOPPING			LOOKING_UP		ps_life_stopped			they are applied; the caller ends the process
 *
 *	  An error while it stops leaves it STOPPING: ps_control_serve() then ends the process.
 */
#include "postgres.h"

#include "ingest/life.h"
#include "process/invalidation.h"

static const char *const life_names[] = {"starting", "connecting", "looking up", "reading", "blocked", "backing off", "stopping"};

static void
life_change(PsWorker *worker, PsLife life)
{
	ereport(DEBUG1, (errmsg_internal("worker %d of stream %d: %s, was %s", worker->number, worker->stream_id,
									 life_names[life], life_names[worker->life])));
	worker->life = life;
}

bool
ps_life_has_started(const PsWorker *worker)
{
	return worker->life != PS_LIFE_STARTING &&
		!(worker->life == PS_LIFE_BACKING_OFF && worker->backing_off.then == PS_LIFE_STARTING);
}

bool
ps_life_has_partitions(const PsWorker *worker)
{
	return worker->life == PS_LIFE_READING || worker->life == PS_LIFE_BLOCKED;
}

void
ps_life_started(PsWorker *worker)
{
	Assert(worker->life == PS_LIFE_STARTING);
	life_change(worker, PS_LIFE_CONNECTING);
}

void
ps_life_connected(PsWorker *worker)
{
	Assert(worker->life == PS_LIFE_CONNECTING);
	worker->looking_up.next = 0;
	life_change(worker, PS_LIFE_LOOKING_UP);
}

void
ps_life_assigned(PsWorker *worker)
{
	Assert(worker->life == PS_LIFE_LOOKING_UP);
	worker->reading.topic_suspect = false;
	life_change(worker, PS_LIFE_READING);
}

void
ps_life_look_up(PsWorker *worker)
{
	if (!ps_life_has_partitions(worker))
		return;
	worker->looking_up.next = 0;
	life_change(worker, PS_LIFE_LOOKING_UP);
}

void
ps_life_set_blocked(PsWorker *worker, bool blocked)
{
	if (ps_life_has_partitions(worker) && blocked != (worker->life == PS_LIFE_BLOCKED))
		life_change(worker, blocked ? PS_LIFE_BLOCKED : PS_LIFE_READING);
}

void
ps_life_back_off(PsWorker *worker, int64 wait_ms)
{
	if (worker->life == PS_LIFE_STOPPING)
		return;
	if (worker->life == PS_LIFE_STARTING || worker->life == PS_LIFE_CONNECTING)
		worker->backing_off.then = worker->life;
	else if (worker->life != PS_LIFE_BACKING_OFF)
		worker->backing_off.then = PS_LIFE_LOOKING_UP;
	worker->backing_off.until = ps_moment_plus(ps_clock_now(), wait_ms);
	life_change(worker, PS_LIFE_BACKING_OFF);
}

void
ps_life_go_on(PsWorker *worker)
{
	if (worker->life != PS_LIFE_BACKING_OFF)
		return;
	worker->looking_up.next = 0;
	life_change(worker, worker->backing_off.then);
}

void
ps_life_turn(PsWorker *worker)
{
	if (worker->life != PS_LIFE_BACKING_OFF || ps_clock_now() < worker->backing_off.until)
		return;
	/* the error may come from settings that are others now: read the stream and its options before the next attempt */
	ps_stream_invalidated = ps_options_invalidated = true;
	ps_life_go_on(worker);
}

void
ps_life_stop(PsWorker *worker)
{
	Assert(ps_life_has_partitions(worker));
	life_change(worker, PS_LIFE_STOPPING);
}

void
ps_life_stopped(PsWorker *worker)
{
	Assert(worker->life == PS_LIFE_STOPPING);
	life_change(worker, PS_LIFE_LOOKING_UP);
}

/*
 * thread.h
 *	  Side threads for calls of librdkafka that block. Such a thread calls nothing
 *	  of PostgreSQL; the process may exit while it still waits for a frozen broker.
 */
#ifndef PS_THREAD_H
#define PS_THREAD_H

#include "postgres.h"

/* Opens a pipe that neither side waits for, to wake a process; raises. */
extern void ps_wakeup_pipe(int pipe_fds[2]);

/* Starts a thread with all signals blocked; false when none can be had. */
extern bool ps_thread_start(void *(*work) (void *), void *arg);

/* Writes one byte into the pipe: the last thing that a thread does. */
extern void ps_thread_tell(const int pipe_fds[2], char byte);

#endif							/* PS_THREAD_H */

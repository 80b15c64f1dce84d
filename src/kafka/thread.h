/*
 * thread.h
 *	  Side threads for calls of librdkafka that block. Such a thread calls nothing of
 *	  PostgreSQL, which is not safe in threads. The process does not wait for it at exit,
 *	  so that a frozen broker keeps no process alive.
 */
#ifndef PS_THREAD_H
#define PS_THREAD_H

#include "postgres.h"

/* Opens a pipe that wakes a process; neither end blocks. */
extern void ps_wakeup_pipe(int pipe_fds[2]);

/* Starts a thread with all signals blocked; false when that is not possible. */
extern bool ps_thread_start(void *(*work) (void *), void *arg);

/* Writes one byte into the pipe, which must be the last act of a thread. */
extern void ps_thread_tell(const int pipe_fds[2], char byte);

#endif							/* PS_THREAD_H */

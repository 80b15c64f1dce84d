/*
 * thread.c
 *	  Starts side threads, and makes the pipes by which they wake their process.
 */
#include "postgres.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include "kafka/thread.h"

void
ps_wakeup_pipe(int pipe_fds[2])
{
	if (pipe(pipe_fds) < 0 ||
		fcntl(pipe_fds[0], F_SETFL, O_NONBLOCK) < 0 ||
		fcntl(pipe_fds[1], F_SETFL, O_NONBLOCK) < 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not create a pipe: %m")));
}

bool
ps_thread_start(void *(*work) (void *), void *arg)
{
	pthread_t	thread;
	sigset_t	all;
	sigset_t	before;
	int			result;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	result = pthread_create(&thread, NULL, work, arg);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (result != 0)
		return false;
	pthread_detach(thread);
	return true;
}

void
ps_thread_tell(const int pipe_fds[2], char byte)
{
	ssize_t		written;

	do
		written = write(pipe_fds[1], &byte, 1);
	while (written < 0 && errno == EINTR);
}

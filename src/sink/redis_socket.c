/*
 * redis_socket.c
 *	  Reads and writes the socket of a connection to Redis.
 */
#include "postgres.h"

#include <sys/socket.h>

#include "sink/redis_socket.h"

/* What the result of recv() or send() means. */
static int
socket_result(ssize_t n, const char **error)
{
	if (n > 0)
		return (int) n;
	if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
		return 0;
	*error = n == 0 ? "Server closed the connection" : strerror(errno);
	return -1;
}

int
ps_redis_receive(PsTls *tls, int fd, char *bytes, int len, const char **error)
{
	int			n;

	if (tls == NULL)
		return socket_result(recv(fd, bytes, len, 0), error);
	n = ps_tls_read(tls, bytes, len);
	*error = ps_tls_error(tls);
	return n;
}

int
ps_redis_transmit(PsTls *tls, int fd, const char *bytes, int len, const char **error)
{
	int			n;

	if (tls == NULL)
		return socket_result(send(fd, bytes, len, 0), error);
	n = ps_tls_write(tls, bytes, len);
	*error = ps_tls_error(tls);
	return n;
}

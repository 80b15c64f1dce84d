/*
 * redis_socket.h
 *	  Bytes from and to the socket of a connection to Redis, with or without TLS.
 */
#ifndef PS_REDIS_SOCKET_H
#define PS_REDIS_SOCKET_H

#include "postgres.h"

#include "sink/redis_tls.h"

/* Read or write what is possible now; return how many bytes, 0: none, -1: the connection failed, for the reason in *error. */
extern int	ps_redis_receive(PsTls *tls, int fd, char *bytes, int len, const char **error);
extern int	ps_redis_transmit(PsTls *tls, int fd, const char *bytes, int len, const char **error);

#endif							/* PS_REDIS_SOCKET_H */

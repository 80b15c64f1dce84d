/*
 * redis_tls.h
 *	  TLS over the socket of a connection to Redis, with OpenSSL. No call waits.
 */
#ifndef PS_REDIS_TLS_H
#define PS_REDIS_TLS_H

#include "postgres.h"

#include "sink/redis_options.h"

typedef struct PsTls PsTls;

#define PS_TLS_AGAIN 0			/* nothing now: wait for the socket */
#define PS_TLS_FAILED (-1)		/* ps_tls_error() says why */

#ifdef PS_TLS
/* Begins on a connected socket; host is the name that the certificate must have, unless the target has another one. */
extern PsTls *ps_tls_open(const PsRedisTarget *target, const char *host, int fd);
extern void ps_tls_close(PsTls *tls);

/* Goes on with the handshake; positive: it is done. */
extern int	ps_tls_handshake(PsTls *tls);

/* Read and write bytes; return how many. */
extern int	ps_tls_read(PsTls *tls, char *bytes, int len);
extern int	ps_tls_write(PsTls *tls, const char *bytes, int len);

/* Whether the last call that gave PS_TLS_AGAIN waits until the socket can be written; else until it can be read. */
extern bool ps_tls_waits_to_write(const PsTls *tls);

extern const char *ps_tls_error(const PsTls *tls);

#else							/* nothing calls these, because redis_options.c refuses TLS */
#define ps_tls_open(target, host, fd) ((PsTls *) NULL)
#define ps_tls_close(tls) ((void) 0)
#define ps_tls_handshake(tls) PS_TLS_FAILED
#define ps_tls_read(tls, bytes, len) PS_TLS_FAILED
#define ps_tls_write(tls, bytes, len) PS_TLS_FAILED
#define ps_tls_waits_to_write(tls) false
#define ps_tls_error(tls) "this build has no TLS"
#endif

#endif							/* PS_REDIS_TLS_H */

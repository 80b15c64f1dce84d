/*
 * redis_tls.c
 *	  TLS for connections to Redis. It calls OpenSSL, which PostgreSQL has anyway, because
 *	  the hiredis of Debian 12 has no TLS. A build without OpenSSL has none of this, and
 *	  redis_options.c refuses its options.
 */
#include "postgres.h"

#include "sink/redis_tls.h"

#ifdef PS_TLS
#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

struct PsTls
{
	SSL_CTX    *context;
	SSL		   *ssl;
	bool		waits_to_write;
	char		error[256];
};

static int
tls_fail(PsTls *tls, const char *what, const char *why)
{
	snprintf(tls->error, sizeof(tls->error), "%s%s%s", what, why != NULL ? ": " : "", why != NULL ? why : "");
	return PS_TLS_FAILED;
}

/* Why the last call of OpenSSL failed. */
static const char *
tls_reason(void)
{
	unsigned long code = ERR_get_error();
	const char *reason = code == 0 ? NULL : ERR_reason_error_string(code);

#ifdef ERR_SYSTEM_ERROR
	if (reason == NULL && ERR_SYSTEM_ERROR(code))
		reason = strerror(ERR_GET_REASON(code));
#endif
	return reason != NULL ? reason : "unknown error of OpenSSL";
}

/* A key with a passphrase is refused: nobody is there to type it. */
static int
no_passphrase(char *buffer, int size, int rwflag, void *arg)
{
	return 0;
}

/* Takes the files of the target; false: one cannot be used. */
static bool
load_files(PsTls *tls, const PsRedisTarget *target)
{
	if (target->sslmode == PS_SSL_REQUIRE && target->sslrootcert == NULL)
		SSL_CTX_set_verify(tls->context, SSL_VERIFY_NONE, NULL);
	else
	{
		SSL_CTX_set_verify(tls->context, SSL_VERIFY_PEER, NULL);
		if (target->sslrootcert == NULL ? SSL_CTX_set_default_verify_paths(tls->context) != 1
			: SSL_CTX_load_verify_locations(tls->context, target->sslrootcert, NULL) != 1)
			return tls_fail(tls, "could not load sslrootcert", tls_reason()) > 0;
	}
	if (target->sslcert == NULL)
		return true;
	if (SSL_CTX_use_certificate_chain_file(tls->context, target->sslcert) != 1)
		return tls_fail(tls, "could not load sslcert", tls_reason()) > 0;
	if (SSL_CTX_use_PrivateKey_file(tls->context, target->sslkey, SSL_FILETYPE_PEM) != 1 || SSL_CTX_check_private_key(tls->context) != 1)
		return tls_fail(tls, "could not load sslkey", tls_reason()) > 0;
	return true;
}

/* Says whose certificate is wanted, and asks for it. */
static bool
name_server(PsTls *tls, const PsRedisTarget *target, const char *host)
{
	const char *name = target->sslservername != NULL ? target->sslservername : host;
	unsigned char address[16];
	bool		is_address;

	if (name == NULL)
		return true;			/* a socket of the file system */
	is_address = inet_pton(AF_INET, name, address) == 1 || inet_pton(AF_INET6, name, address) == 1;
	if (!is_address && SSL_set_tlsext_host_name(tls->ssl, name) != 1)
		return false;
	if (target->sslmode != PS_SSL_VERIFY_FULL)
		return true;
	if (is_address)
		return X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(tls->ssl), name) == 1;
	SSL_set_hostflags(tls->ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
	return SSL_set1_host(tls->ssl, name) == 1;
}

PsTls *
ps_tls_open(const PsRedisTarget *target, const char *host, int fd)
{
	PsTls	   *tls = palloc0(sizeof(PsTls));

	ERR_clear_error();
	tls->context = SSL_CTX_new(TLS_client_method());
	if (tls->context == NULL || SSL_CTX_set_min_proto_version(tls->context, TLS1_2_VERSION) != 1)
	{
		(void) tls_fail(tls, "could not begin TLS", tls_reason());
		return tls;
	}
	SSL_CTX_set_default_passwd_cb(tls->context, no_passphrase);
	SSL_CTX_set_mode(tls->context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	if (!load_files(tls, target))
		return tls;
	tls->ssl = SSL_new(tls->context);
	if (tls->ssl == NULL || SSL_set_fd(tls->ssl, fd) != 1 || !name_server(tls, target, host))
		(void) tls_fail(tls, "could not begin TLS", tls_reason());
	return tls;
}

void
ps_tls_close(PsTls *tls)
{
	if (tls->ssl != NULL)
		SSL_free(tls->ssl);
	if (tls->context != NULL)
		SSL_CTX_free(tls->context);
	tls->ssl = NULL;
	tls->context = NULL;
}

/* What the result of a call of OpenSSL means. */
static int
tls_result(PsTls *tls, int result)
{
	int			code;
	int			saved_errno = errno;
	long		verified;

	if (result > 0)
		return result;
	code = SSL_get_error(tls->ssl, result);
	tls->waits_to_write = code == SSL_ERROR_WANT_WRITE;
	if (code == SSL_ERROR_WANT_READ || code == SSL_ERROR_WANT_WRITE)
		return PS_TLS_AGAIN;
	if (code == SSL_ERROR_ZERO_RETURN)
		return tls_fail(tls, "Server closed the connection", NULL);
	verified = SSL_get_verify_result(tls->ssl);
	if (code == SSL_ERROR_SSL && !SSL_is_init_finished(tls->ssl) && verified != X509_V_OK)
		return tls_fail(tls, "certificate verify failed", X509_verify_cert_error_string(verified));
	if (code == SSL_ERROR_SYSCALL && ERR_peek_error() == 0)
		return tls_fail(tls, saved_errno != 0 ? strerror(saved_errno) : "Server closed the connection", NULL);
	return tls_fail(tls, tls_reason(), NULL);
}

#define TLS_CALL(tls, call) \
	((tls)->error[0] != '\0' ? PS_TLS_FAILED : (ERR_clear_error(), errno = 0, tls_result((tls), (call))))

int
ps_tls_handshake(PsTls *tls)
{
	return TLS_CALL(tls, SSL_connect(tls->ssl));
}

int
ps_tls_read(PsTls *tls, char *bytes, int len)
{
	return TLS_CALL(tls, SSL_read(tls->ssl, bytes, len));
}

int
ps_tls_write(PsTls *tls, const char *bytes, int len)
{
	return TLS_CALL(tls, SSL_write(tls->ssl, bytes, len));
}

bool
ps_tls_waits_to_write(const PsTls *tls)
{
	return tls->waits_to_write;
}

const char *
ps_tls_error(const PsTls *tls)
{
	return tls->error;
}

#endif

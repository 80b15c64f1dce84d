/*
 * token.h
 *	  The token of a client that logs in by OAUTHBEARER, from a file.
 */
#ifndef PS_TOKEN_H
#define PS_TOKEN_H

#include "postgres.h"

#include "nodes/pg_list.h"

#define PS_TOKEN_FILE "sasl.oauthbearer.token_file"
#define PS_TOKEN_EXTENSIONS "sasl.oauthbearer.extensions"

/* Whether an option is for the token, and none of librdkafka's. */
extern bool ps_token_option(const char *name);

/*
 * What a client keeps to renew its token, as its opaque pointer, in memory that lives as long as the process. NULL where
 * the options name no file; raises when the file cannot be read.
 */
extern void *ps_token_source(List *options);

/* Gives a client, a rd_kafka_t, a token of its file. Tells librdkafka, and does not raise, when there is none. */
extern void ps_token_renew(void *rk);

#endif							/* PS_TOKEN_H */

/*
 * token.c
 *	  Reads a token of OAUTHBEARER (RFC 7628) from a file, which another program
 *	  renews: a projected service account, a sidecar, a job.
 *
 *	  librdkafka asks for a new token by an event, when four fifths of the life of the
 *	  old one are over.
 */
#include "postgres.h"

#include <librdkafka/rdkafka.h>

#include "common/base64.h"
#include "core/json.h"
#include "core/unix_time.h"
#include "kafka/option_list.h"
#include "kafka/secret_file.h"
#include "kafka/token.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#define OPAQUE_LIFE_MS 300000	/* of a token that does not say when it ends */
#define MAX_EXTENSIONS 16

typedef struct PsToken
{
	char	   *path;
	char	   *extensions;		/* NULL: none */
} PsToken;

bool
ps_token_option(const char *name)
{
	return strcmp(name, PS_TOKEN_FILE) == 0 || strcmp(name, PS_TOKEN_EXTENSIONS) == 0;
}

void *
ps_token_source(List *options)
{
	PsToken		token = {0};
	PsToken    *result;
	ListCell   *cell;

	foreach(cell, options)
	{
		PsKafkaOption *option = lfirst(cell);

		if (strcmp(option->name, PS_TOKEN_FILE) == 0)
			token.path = MemoryContextStrdup(TopMemoryContext, option->value);
		else if (strcmp(option->name, PS_TOKEN_EXTENSIONS) == 0)
			token.extensions = MemoryContextStrdup(TopMemoryContext, option->value);
	}
	if (token.path == NULL)
		return NULL;
	(void) ps_secret_file_read(PS_TOKEN_FILE, token.path);	/* an error now ends nothing but this attempt to connect */
	result = MemoryContextAlloc(TopMemoryContext, sizeof(PsToken));
	*result = token;
	return result;
}

/* Reads the claims exp and sub of a JSON Web Token (RFC 7519). Its signature is for the broker to check. */
static void
read_claims(const char *token, int64 *ends_ms, const char **principal)
{
	const char *from = strchr(token, '.');
	const char *to = from ? strchr(from + 1, '.') : NULL;
	PsField		claims[] = {{.name = "exp"}, {.name = "sub"}};
	PsJsonReader reader = {.members = claims,.nmembers = lengthof(claims),.expanded = PS_JSON_NO_MEMBER};
	char	   *encoded;
	char	   *json;
	int			len;
	int64		seconds;

	if (to == NULL)
		return;
	encoded = psprintf("%.*s===", (int) (to - from - 1), from + 1);
	encoded[(to - from - 1 + 3) / 4 * 4] = '\0';	/* base64 has a multiple of four characters */
	for (char *c = encoded; *c != '\0'; c++)
		*c = *c == '-' ? '+' : *c == '_' ? '/' : *c;
	json = palloc(strlen(encoded) + 1);
	len = pg_b64_decode(encoded, strlen(encoded), (void *) json, strlen(encoded));
	if (len < 0 || ps_json_read(json, len, &reader) != NULL)
		return;
	if (claims[0].type == PS_JSON_NUMBER && ps_json_whole_number(claims[0].text, 12, &seconds))
		*ends_ms = seconds * 1000;
	if (claims[1].type == PS_JSON_STRING)
		*principal = claims[1].text;
}

/* Splits name=value,name=value into names and values; returns how many strings these are. */
static int
split_extensions(const char *text, const char **strings)
{
	int			n = 0;
	char	   *rest = text ? pstrdup(text) : NULL;
	char	   *pair;

	while ((pair = strsep(&rest, ",")) != NULL && n < 2 * MAX_EXTENSIONS)
	{
		char	   *value = strchr(pair, '=');

		if (value == NULL)
			continue;
		*value = '\0';
		strings[n++] = pair;
		strings[n++] = value + 1;
	}
	return n;
}

/* Reads the file and gives the client what is in it; false, with librdkafka's reason, when that does not take it. */
static bool
give_token(rd_kafka_t *rk, char *reason, size_t size)
{
	PsToken    *source = rd_kafka_opaque(rk);
	char	   *token = ps_secret_file_read(PS_TOKEN_FILE, source->path);
	int64		ends_ms = ps_unix_us_of(GetCurrentTimestamp()) / 1000 + OPAQUE_LIFE_MS;
	const char *principal = "profile_stream";
	const char *extensions[2 * MAX_EXTENSIONS];
	int			n = split_extensions(source->extensions, extensions);

	read_claims(token, &ends_ms, &principal);
	return rd_kafka_oauthbearer_set_token(rk, token, ends_ms, principal, extensions, n, reason, size) == RD_KAFKA_RESP_ERR_NO_ERROR;
}

void
ps_token_renew(void *rk)
{
	MemoryContext here = CurrentMemoryContext;
	MemoryContext context = AllocSetContextCreate(here, "profile_stream token", ALLOCSET_DEFAULT_SIZES);
	char		reason[256];

	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		if (!give_token(rk, reason, sizeof(reason)))
			rd_kafka_oauthbearer_set_token_failure(rk, reason);
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		rd_kafka_oauthbearer_set_token_failure(rk, error->message);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(here);
	MemoryContextDelete(context);
}

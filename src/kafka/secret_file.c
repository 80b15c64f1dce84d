/*
 * secret_file.c
 *	  Reads secrets from files. So they are in no dump, and another program can renew
 *	  them: a file is read each time that a client is made.
 */
#include "postgres.h"

#include <sys/stat.h>

#include "kafka/option_list.h"
#include "kafka/secret_file.h"
#include "kafka/token.h"
#include "storage/fd.h"

#define SUFFIX "_file"
#define MAX_BYTES 65536

bool
ps_secret_in_file(const char *name)
{
	size_t		len = strlen(name);

	return len > strlen(SUFFIX) && strcmp(name + len - strlen(SUFFIX), SUFFIX) == 0;
}

/* Raises with the error of errno, or with what is wrong. The path is left out: whoever sees the error need not know it. */
static void
refuse_file(const char *option, const char *wrong)
{
	ereport(ERROR,
			(wrong == NULL ? errcode_for_file_access() : errcode(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE),
			 wrong == NULL ? errmsg("could not read the file of option \"%s\": %m", option)
			 : errmsg("the file of option \"%s\" %s", option, wrong),
			 errhint("It must be a file of at most %d bytes that the operating system's user of the server can read.", MAX_BYTES),
			 errhidestmt(true)));
}

char *
ps_secret_file_read(const char *option, const char *path)
{
	char	   *value = palloc(MAX_BYTES + 2);
	struct stat found;
	FILE	   *file;
	size_t		len;

	/* to open a pipe would wait */
	if (stat(path, &found) != 0)
		refuse_file(option, NULL);
	if (!S_ISREG(found.st_mode))
		refuse_file(option, "is no file");
	file = AllocateFile(path, PG_BINARY_R);
	if (file == NULL)
		refuse_file(option, NULL);
	len = fread(value, 1, MAX_BYTES + 1, file);
	FreeFile(file);
	if (len > MAX_BYTES)
		refuse_file(option, "is too large");
	while (len > 0 && (value[len - 1] == '\n' || value[len - 1] == '\r'))
		len--;
	value[len] = '\0';
	if (len == 0 || strlen(value) != len)
		refuse_file(option, len == 0 ? "is empty" : "has a zero byte");
	return value;
}

List *
ps_secret_files_read(List *options)
{
	List	   *result = NIL;
	ListCell   *cell;

	foreach(cell, options)
	{
		PsKafkaOption *option = lfirst(cell);

		/* a client reads its token by itself, again and again */
		if (!ps_secret_in_file(option->name) || strcmp(option->name, PS_TOKEN_FILE) == 0)
			result = lappend(result, option);
		else
			result = ps_kafka_add_option(result, pnstrdup(option->name, strlen(option->name) - strlen(SUFFIX)),
										 ps_secret_file_read(option->name, option->value));
	}
	return result;
}

/*
 * text.c
 *	  Makes valid text of bytes from librdkafka, hiredis, the C library or a server. Only
 *	  such text may go into a table, an error or the log.
 */
#include "postgres.h"

#include "core/text.h"
#include "mb/pg_wchar.h"

/* Whether a character is invisible or moves the cursor: a control character or a byte order mark. */
static bool
is_invisible(const char *character, int len)
{
	unsigned char first = character[0];

	return (len == 1 && (first < ' ' || first == 0x7F) && first != '\n' && first != '\t') ||
		(len == 3 && memcmp(character, "\xEF\xBB\xBF", 3) == 0);
}

void
ps_text_put(char *out, int size, const char *bytes, int len)
{
	int			done = 0;
	int			taken;

	for (int at = 0; at < len; at += Max(taken, 1))
	{
		taken = pg_encoding_verifymbchar(PG_UTF8, bytes + at, len - at);
		if (done + Max(taken, 1) >= size)
			break;
		if (taken <= 0 || is_invisible(bytes + at, taken))
			out[done++] = '?';
		else
		{
			memcpy(out + done, bytes + at, taken);
			done += taken;
		}
	}
	out[done] = '\0';
}

char *
ps_text_of_bytes(const char *bytes, int len, int max_bytes)
{
	int			size = Min(len, max_bytes) + 1;
	char	   *result = palloc(size);

	ps_text_put(result, size, bytes, len);
	return result;
}

char *
ps_text_of_error(const char *error)
{
	if (error == NULL)
		return pstrdup("unknown error");
	return ps_text_of_bytes(error, strlen(error), PS_MAX_FOREIGN_TEXT);
}

/*
 * text_set.c
 *	  Sets of texts, which the decoder and filters look into for each event.
 */
#include "postgres.h"

#include "core/text_set.h"
#include "lib/qunique.h"

static int
text_set_compare(const void *a, const void *b)
{
	return strcmp(*(const char *const *) a, *(const char *const *) b);
}

PsTextSet
ps_text_set_make(const char **texts, int n)
{
	PsTextSet	set = {texts, n};

	if (n > 1)
	{
		qsort(texts, n, sizeof(char *), text_set_compare);
		set.n = (int) qunique(texts, n, sizeof(char *), text_set_compare);
	}
	return set;
}

bool
ps_text_set_has(const PsTextSet *set, const char *text)
{
	return set->n > 0 && bsearch(&text, set->texts, set->n, sizeof(char *), text_set_compare) != NULL;
}

bool
ps_text_set_equal(const PsTextSet *a, const PsTextSet *b)
{
	bool		equal = a->n == b->n;

	for (int i = 0; i < a->n && equal; i++)
		equal = strcmp(a->texts[i], b->texts[i]) == 0;
	return equal;
}

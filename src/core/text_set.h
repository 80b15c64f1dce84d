/*
 * text_set.h
 *	  Sets of texts: the event types that a stream takes, the sources of a filter.
 */
#ifndef PS_TEXT_SET_H
#define PS_TEXT_SET_H

/* Texts without nulls, sorted as strcmp() does, each once. */
typedef struct PsTextSet
{
	const char **texts;
	int			n;
} PsTextSet;

/* Sorts texts and removes what is there twice. */
extern PsTextSet ps_text_set_make(const char **texts, int n);

extern bool ps_text_set_equal(const PsTextSet *a, const PsTextSet *b);

extern bool ps_text_set_has(const PsTextSet *set, const char *text);

#endif							/* PS_TEXT_SET_H */

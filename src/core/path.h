/*
 * path.h
 *	  Paths of keys: $.loyalty.tier, $."odd key".
 */
#ifndef PS_PATH_H
#define PS_PATH_H

#include "core/event.h"

#define PS_MAX_PATH_KEYS 8

typedef struct PsPath
{
	int			nkeys;
	const char *keys[PS_MAX_PATH_KEYS];
} PsPath;

/* Parses a path; returns what is wrong with it, or NULL. */
extern const char *ps_path_parse(const char *text, PsPath *path);

/* Finds the value of a path, of at least one key, in the payload; a JSON null when there is none. */
extern PsField ps_path_find(const PsEvent *event, const PsPath *path);

#endif							/* PS_PATH_H */

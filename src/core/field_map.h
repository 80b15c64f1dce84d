/*
 * field_map.h
 *	  A stream's format and field_map, as users write them.
 */
#ifndef PS_FIELD_MAP_H
#define PS_FIELD_MAP_H

#include "core/format.h"
#include "utils/jsonb.h"

/*
 * Compiles a format and its map (NULL: none) into CurrentMemoryContext; NULL for
 * profile_event. Raises ERRCODE_INVALID_PARAMETER_VALUE for what is wrong in them.
 */
extern PsFormatMap *ps_field_map_compile(const char *format, Jsonb *map);

/* The unit of that name; raises when there is none. */
extern PsTimeUnit ps_time_unit(const char *name);

#endif							/* PS_FIELD_MAP_H */

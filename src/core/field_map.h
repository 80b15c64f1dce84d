/*
 * field_map.h
 *	  Compiles the format and the field_map of a stream as users write them.
 */
#ifndef PS_FIELD_MAP_H
#define PS_FIELD_MAP_H

#include "core/format.h"
#include "utils/jsonb.h"

/*
 * Compiles a format and its field_map (NULL: none) in CurrentMemoryContext. Returns
 * NULL for profile_event, which has no map. Raises ERRCODE_INVALID_PARAMETER_VALUE
 * when one of them is wrong.
 */
extern PsFormatMap *ps_field_map_compile(const char *format, Jsonb *map);

/* Finds a unit by its name; raises when there is none. */
extern PsTimeUnit ps_time_unit(const char *name);

#endif							/* PS_FIELD_MAP_H */

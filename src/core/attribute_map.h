/*
 * attribute_map.h
 *	  Attribute maps: how a value of each event of a type changes an attribute, or
 *	  the column of that name.
 */
#ifndef PS_ATTRIBUTE_MAP_H
#define PS_ATTRIBUTE_MAP_H

#include "core/filter.h"
#include "core/profile.h"
#include "core/value.h"

typedef enum PsOperation
{
	PS_OPERATION_SET,
	PS_OPERATION_SET_IF_NULL,
	PS_OPERATION_ADD,
	PS_OPERATION_SUBTRACT,
	PS_OPERATION_MAX,
	PS_OPERATION_MIN,
	PS_OPERATION_COUNT,
	PS_OPERATION_APPEND_UNIQUE,
	PS_OPERATION_LATEST			/* set, unless a later event did so already */
} PsOperation;

typedef struct PsAttributeMap
{
	const char *attribute;
	int			len;
	const PsProfileColumn *column;	/* of that name; NULL: there is none, it is an attribute */
	const char *path_text;		/* NULL: the map reads no value; only operation count allows that */
	PsPath		path;
	PsOperation operation;
	PsValueType type;
	PsFilter	filter;			/* other events leave the attribute as it is */
	int			max_items;		/* append_unique removes the oldest element of an array that would be longer */
} PsAttributeMap;

/*
 * Compiles a map whose attribute, path_text, filter and max_items are set. Operation and
 * type are names; type NULL means that of the column, else the operation's usual
 * one. Returns what is wrong with the map, or NULL.
 */
extern const char *ps_attribute_map_init(PsAttributeMap *map, const char *operation, const char *type);

extern const char *ps_operation_name(PsOperation operation);

/* Reads the value that a map takes from an event, jbvNull when there is none; returns why the event is refused, or NULL. */
extern PsReject *ps_attribute_map_read(const PsAttributeMap *map, const PsEvent *event, JsonbValue *value);

/* Applies the value to the profile. Raises when the profile cannot take it, as for an account_count that is no integer. */
extern void ps_attribute_map_apply(const PsAttributeMap *map, const JsonbValue *value, PsProfile *profile, TimestampTz at);

#endif							/* PS_ATTRIBUTE_MAP_H */

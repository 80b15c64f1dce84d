/*
 * attribute_map.h
 *	  Attribute maps: what a value of each event of a type does to an attribute, or
 *	  to a built-in column of that name.
 */
#ifndef PS_ATTRIBUTE_MAP_H
#define PS_ATTRIBUTE_MAP_H

#include "core/path.h"
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
	PS_OPERATION_LATEST			/* set, unless an event of a later time did */
} PsOperation;

typedef struct PsAttributeMap
{
	const char *attribute;
	int			len;
	const struct PsBuiltin *builtin;	/* the column of that name; NULL: an attribute */
	const char *path_text;		/* NULL: none, which is for count alone */
	PsPath		path;
	PsOperation operation;
	PsValueType type;
	int			max_items;		/* of append_unique; beyond it the oldest goes */
} PsAttributeMap;

/*
 * Compiles a map whose attribute, path_text and max_items are set, of operation and
 * type (NULL: what the column or the operation suggests) by their names; what is wrong with it, or NULL.
 */
extern const char *ps_attribute_map_init(PsAttributeMap *map, const char *operation, const char *type);

extern const char *ps_operation_name(PsOperation operation);

/* Reads what a map takes of an event, jbvNull when nothing; returns why the event is refused, or NULL. */
extern PsReject *ps_attribute_map_read(const PsAttributeMap *map, const PsEvent *event, JsonbValue *value);

/* Applies that to the profile; raises data errors for what the profile cannot take. */
extern void ps_attribute_map_apply(const PsAttributeMap *map, const JsonbValue *value, PsProfile *profile, TimestampTz at);

#endif							/* PS_ATTRIBUTE_MAP_H */

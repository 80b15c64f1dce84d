/*
 * attribute_maps.c
 *	  map_attribute() and unmap_attribute(), which let a value of an event change an
 *	  attribute; and the trigger that tells all processes of a new rule.
 */
#include "postgres.h"

#include "api/caller.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "store/extension.h"
#include "store/rule_catalog.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/rel.h"

#define MAX_ATTRIBUTE_BYTES 63	/* create_profile_view() makes a column of it */
#define MAX_ITEMS 1000

/* A trigger of the tables of rules. Its invalidation reaches each process that has cached the rules. */
PG_FUNCTION_INFO_V1(ps_rules_changed);
Datum
ps_rules_changed(PG_FUNCTION_ARGS)
{
	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("rules_changed() is a trigger function")));
	CacheInvalidateRelcache(((TriggerData *) fcinfo->context)->tg_relation);
	PG_RETURN_POINTER(NULL);
}

/* The map that the arguments describe. */
static PsAttributeMap
get_map(FunctionCallInfo fcinfo)
{
	char	   *operation = ps_get_name(fcinfo, 3, "operation", NAMEDATALEN);
	PsAttributeMap map = {.attribute = ps_get_name(fcinfo, 1, "attribute", MAX_ATTRIBUTE_BYTES),.path_text = ps_get_string(fcinfo, 2)};
	const char *wrong;

	map.filter.path_text = ps_get_string(fcinfo, 6);
	map.filter.value = ps_get_string(fcinfo, 7);
	map.filter.operator_text = ps_get_string(fcinfo, 8);
	map.filter.sources = ps_get_texts(fcinfo, 9, "sources");
	wrong = ps_attribute_map_init(&map, operation, ps_get_string(fcinfo, 4));
	ps_check_argument(wrong == NULL, wrong);
	if (map.column == NULL)
		ps_check_no_column(map.attribute);
	map.max_items = PG_ARGISNULL(5) ? 0 : PG_GETARG_INT32(5);
	ps_check_argument(map.max_items >= 1 && map.max_items <= MAX_ITEMS, "max_items must be between 1 and " CppAsString2(MAX_ITEMS));
	return map;
}

/* Adds the map for an event type. */
static void
attribute_maps_add(const char *event_type, const PsAttributeMap *map)
{
	const char *other = ps_rules_add_map(event_type, map);

	if (other != NULL && other[0] != '\0')
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("attribute \"%s\" is of another type in the map of event type \"%s\"", map->attribute, other),
				 errhint("Maps of one attribute have one type, and all or none of them append_unique.")));
	if (other != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("event type \"%s\" already has a map of attribute \"%s\"", event_type, map->attribute),
				 errhint("unmap_attribute() removes it.")));
}

PS_FUNCTION(ps_map_attribute);
static Datum
ps_map_attribute_checked(PG_FUNCTION_ARGS)
{
	PsTextSet	event_types = ps_get_event_types(fcinfo, 0, 10);
	PsAttributeMap map = get_map(fcinfo);

	SPI_connect();
	for (int i = 0; i < event_types.n; i++)
		attribute_maps_add(event_types.texts[i], &map);
	SPI_finish();
	PG_RETURN_VOID();
}

PS_FUNCTION(ps_unmap_attribute);
static Datum
ps_unmap_attribute_checked(PG_FUNCTION_ARGS)
{
	char	   *event_type = text_to_cstring(PG_GETARG_TEXT_PP(0));
	char	   *attribute = text_to_cstring(PG_GETARG_TEXT_PP(1));

	SPI_connect();
	if (!ps_rules_remove_map(event_type, attribute))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("event type \"%s\" has no map of attribute \"%s\"", event_type, attribute),
				 errhint("The view definitions lists them.")));
	SPI_finish();
	PG_RETURN_VOID();
}

/*
 * rule_catalog.c
 *	  Loads the rules: what users registered for event types. Triggers on their tables
 *	  send invalidation messages, after which each process loads the rules again.
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "settings.h"
#include "store/handler_catalog.h"
#include "store/locks.h"
#include "store/metric_catalog.h"
#include "store/owner.h"
#include "store/plan.h"
#include "store/rule_catalog.h"
#include "store/table_watch.h"
#include "store/xact.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"

static int	holders = 0;
static uint64 loads = 0;

static PsPlan maps_plan = {
	.sql = "SELECT m.event_type, m.attribute, m.path, m.operation, m.type, m.max_items,"
	" m.filter_path, m.filter_value, m.filter_operator, m.sources"
	" FROM profile_stream_internal.attribute_maps m ORDER BY m.map_id",
	.fixed_schema = true
};

static PsPlan other_map_plan = {
	.sql = "SELECT m.event_type FROM profile_stream_internal.attribute_maps m"
	" WHERE m.attribute = $1 AND (m.type, m.operation = 'append_unique') <> ($2, $3) ORDER BY m.map_id LIMIT 1",
	.nargs = 3,.argtypes = {TEXTOID, TEXTOID, BOOLOID},.fixed_schema = true
};

static PsPlan add_map_plan = {
	.sql = "INSERT INTO profile_stream_internal.attribute_maps (event_type, attribute, operation, type, max_items, path,"
	" filter_path, filter_value, filter_operator, sources)"
	" VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT (event_type, attribute) DO NOTHING",
	.nargs = 10,.argtypes = {TEXTOID, TEXTOID, TEXTOID, TEXTOID, INT4OID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTARRAYOID},.fixed_schema = true
};

static PsPlan remove_map_plan = {
	.sql = "DELETE FROM profile_stream_internal.attribute_maps m WHERE m.event_type = $1 AND m.attribute = $2",
	.nargs = 2,.argtypes = {TEXTOID, TEXTOID},.fixed_schema = true
};

static void
load_maps(PsRules *rules)
{
	uint64		n = ps_plan_read(&maps_plan, NULL);

	for (uint64 i = 0; i < n; i++)
	{
		PsEventRules *of_type = ps_rules_of_type(rules, ps_plan_text(i, 1));
		PsAttributeMap map = {.attribute = ps_plan_text(i, 2),.path_text = ps_plan_text(i, 3),.max_items = atoi(ps_plan_text(i, 6))};
		const char *wrong;

		map.filter.path_text = ps_plan_text(i, 7);
		map.filter.value = ps_plan_text(i, 8);
		map.filter.operator_text = ps_plan_text(i, 9);
		map.filter.sources = ps_plan_texts(i, 10);
		wrong = ps_attribute_map_init(&map, ps_plan_text(i, 4), ps_plan_text(i, 5));
		if (wrong != NULL)
			ereport(ERROR,
					(errcode(ERRCODE_DATA_CORRUPTED),
					 errmsg("map of attribute \"%s\" of event type \"%s\": %s", map.attribute, of_type->event_type, wrong),
					 errhint("Remove it with unmap_attribute().")));
		of_type->maps = of_type->nmaps == 0 ? palloc(sizeof(map)) : repalloc(of_type->maps, (of_type->nmaps + 1) * sizeof(map));
		of_type->maps[of_type->nmaps++] = map;
	}
	SPI_freetuptable(SPI_tuptable);
}

static const void *
rule_catalog_read(void)
{
	PsRules    *rules = palloc0(sizeof(PsRules));
	int			nest_level = NewGUCNestLevel();

	/* the caller's search_path could change the meaning of operators */
	ps_guc_set_nested("search_path", "pg_catalog, pg_temp");
	load_maps(rules);
	ps_metrics_load(rules);
	ps_handlers_load(rules);
	ps_upcasters_load(rules);
	ps_decoders_load(rules);
	AtEOXact_GUC(true, nest_level);
	loads++;
	return rules;
}

static const char *const tables[] = {"attribute_maps", "metric_series", "metrics", "event_handlers", "event_upcasters", "stream_decoders", "confirmed_code"};
static PsTableWatch watch = {tables, lengthof(tables), rule_catalog_read, true};

void
ps_rules_tell(void)
{
	Oid			relid = ps_own_table(false, "event_handlers");

	if (OidIsValid(relid))
		CacheInvalidateRelcacheByRelid(relid);
}

void
ps_rules_lock(void)
{
	ps_lock_all(tables, lengthof(tables), AccessShareLock);
}

bool
ps_rules_are_stale(void)
{
	return watch.stale;
}

uint64
ps_rules_loads(void)
{
	return loads;
}

const PsRules *
ps_rules_get(void)
{
	if (watch.stale && holders == 0)
		ps_table_watch_read(&watch);
	return watch.content;
}

const PsRules *
ps_rules_hold(void)
{
	const PsRules *rules = ps_rules_get();

	holders++;
	return rules;
}

void
ps_rules_release(void)
{
	holders--;
}

void
ps_rules_release_all(void)
{
	holders = 0;
}

const char *
ps_rules_add_map(const char *event_type, const PsAttributeMap *map)
{
	const char *texts[3] = {map->path_text, map->filter.path_text, map->filter.value};
	Datum		args[10] = {
		CStringGetTextDatum(event_type), CStringGetTextDatum(map->attribute), CStringGetTextDatum(ps_operation_name(map->operation)),
		CStringGetTextDatum(ps_value_type_names[map->type]), Int32GetDatum(map->max_items)
	};
	char		nulls[11] = "          ";
	Datum		others[3] = {args[1], args[3], BoolGetDatum(map->operation == PS_OPERATION_APPEND_UNIQUE)};

	for (int i = 0; i < lengthof(texts); i++)
	{
		if (texts[i] != NULL)
			args[i + 5] = CStringGetTextDatum(texts[i]);
		else
			nulls[i + 5] = 'n';
	}
	args[8] = CStringGetTextDatum(map->filter.operator_text);
	args[9] = ps_text_set_array(&map->filter.sources);
	if (map->filter.sources.n == 0)
		nulls[9] = 'n';
	if (ps_plan_run(&other_map_plan, others, NULL, SPI_OK_SELECT) > 0)
		return ps_plan_text(0, 1);
	return ps_plan_run(&add_map_plan, args, nulls, SPI_OK_INSERT) > 0 ? NULL : "";
}

bool
ps_rules_remove_map(const char *event_type, const char *attribute)
{
	Datum		args[2] = {CStringGetTextDatum(event_type), CStringGetTextDatum(attribute)};

	return ps_plan_run(&remove_map_plan, args, NULL, SPI_OK_DELETE) > 0;
}

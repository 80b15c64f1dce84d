/*
 * handler_catalog.c
 *	  Handlers and upcasters as they are registered. The functions are kept by
 *	  name, because their OIDs are others after a restore or pg_upgrade.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "store/function.h"
#include "store/handler_catalog.h"
#include "store/plan.h"
#include "utils/builtins.h"

static PsPlan handlers_plan = {
	.sql = "SELECT h.event_type, h.function, h.owner FROM profile_stream.event_handlers h"
	" ORDER BY h.priority, h.handler_id",
	.as_written = true
};

static PsPlan add_handler_plan = {
	.sql = "INSERT INTO profile_stream.event_handlers (event_type, function, owner, priority)"
	" VALUES ($1, $2, $3::pg_catalog.name, $4) ON CONFLICT (event_type, function) DO NOTHING",
	.nargs = 4,.argtypes = {TEXTOID, TEXTOID, TEXTOID, INT4OID},.as_written = true
};

static PsPlan handler_plan = {
	.sql = "SELECT h.owner FROM profile_stream.event_handlers h WHERE h.event_type = $1 AND h.function = $2",
	.nargs = 2,.argtypes = {TEXTOID, TEXTOID},.as_written = true
};

static PsPlan remove_handler_plan = {
	.sql = "DELETE FROM profile_stream.event_handlers h WHERE h.event_type = $1 AND h.function = $2",
	.nargs = 2,.argtypes = {TEXTOID, TEXTOID},.as_written = true
};

static PsPlan upcasters_plan = {
	.sql = "SELECT u.event_type, u.function, u.owner, u.from_version FROM profile_stream.event_upcasters u"
	" ORDER BY u.event_type, u.from_version",
	.as_written = true
};

static PsPlan add_upcaster_plan = {
	.sql = "INSERT INTO profile_stream.event_upcasters (event_type, from_version, function, owner)"
	" VALUES ($1, $2, $3, $4::pg_catalog.name) ON CONFLICT (event_type, from_version) DO NOTHING",
	.nargs = 4,.argtypes = {TEXTOID, INT4OID, TEXTOID, TEXTOID},.as_written = true
};

static PsPlan upcaster_plan = {
	.sql = "SELECT u.owner, u.function FROM profile_stream.event_upcasters u WHERE u.event_type = $1 AND u.from_version = $2",
	.nargs = 2,.argtypes = {TEXTOID, INT4OID},.as_written = true
};

static PsPlan remove_upcaster_plan = {
	.sql = "DELETE FROM profile_stream.event_upcasters u WHERE u.event_type = $1 AND u.from_version = $2",
	.nargs = 2,.argtypes = {TEXTOID, INT4OID},.as_written = true
};

void
ps_handlers_load(PsRules *rules)
{
	uint64		n = ps_plan_read(&handlers_plan, NULL);

	for (uint64 i = 0; i < n; i++)
	{
		PsEventRules *of_type = ps_rules_of_type(rules, ps_plan_text(i, 1));
		Size		size = (of_type->nhandlers + 1) * sizeof(PsFunction *);

		of_type->handlers = of_type->nhandlers == 0 ? palloc(size) : repalloc(of_type->handlers, size);
		of_type->handlers[of_type->nhandlers++] = ps_function_make("handler", ps_plan_text(i, 2), ps_plan_text(i, 3), 2);
	}
	SPI_freetuptable(SPI_tuptable);
}

void
ps_upcasters_load(PsRules *rules)
{
	uint64		n = ps_plan_read(&upcasters_plan, NULL);

	for (uint64 i = 0; i < n; i++)
	{
		PsEventRules *of_type = ps_rules_of_type(rules, ps_plan_text(i, 1));
		Size		size = (of_type->nupcasters + 1) * sizeof(PsUpcaster);

		of_type->upcasters = of_type->nupcasters == 0 ? palloc(size) : repalloc(of_type->upcasters, size);
		of_type->upcasters[of_type->nupcasters++] = (PsUpcaster)
		{
			atoi(ps_plan_text(i, 4)), ps_function_make("upcaster", ps_plan_text(i, 2), ps_plan_text(i, 3), 1)
		};
	}
	SPI_freetuptable(SPI_tuptable);
}

bool
ps_handlers_add(const char *event_type, const char *function, const char *owner, int priority)
{
	Datum		args[4] = {CStringGetTextDatum(event_type), CStringGetTextDatum(function), CStringGetTextDatum(owner), Int32GetDatum(priority)};

	return ps_plan_run(&add_handler_plan, args, NULL, SPI_OK_INSERT) > 0;
}

bool
ps_upcasters_add(const char *event_type, int from_version, const char *function, const char *owner)
{
	Datum		args[4] = {CStringGetTextDatum(event_type), Int32GetDatum(from_version), CStringGetTextDatum(function), CStringGetTextDatum(owner)};

	return ps_plan_run(&add_upcaster_plan, args, NULL, SPI_OK_INSERT) > 0;
}

char *
ps_handlers_owner(const char *event_type, const char *function)
{
	Datum		args[2] = {CStringGetTextDatum(event_type), CStringGetTextDatum(function)};

	return ps_plan_run(&handler_plan, args, NULL, SPI_OK_SELECT) > 0 ? ps_plan_text(0, 1) : NULL;
}

char *
ps_upcasters_owner(const char *event_type, int from_version, char **function)
{
	Datum		args[2] = {CStringGetTextDatum(event_type), Int32GetDatum(from_version)};

	if (ps_plan_run(&upcaster_plan, args, NULL, SPI_OK_SELECT) == 0)
		return NULL;
	*function = ps_plan_text(0, 2);
	return ps_plan_text(0, 1);
}

void
ps_handlers_remove(const char *event_type, const char *function)
{
	Datum		args[2] = {CStringGetTextDatum(event_type), CStringGetTextDatum(function)};

	(void) ps_plan_run(&remove_handler_plan, args, NULL, SPI_OK_DELETE);
}

void
ps_upcasters_remove(const char *event_type, int from_version)
{
	Datum		args[2] = {CStringGetTextDatum(event_type), Int32GetDatum(from_version)};

	(void) ps_plan_run(&remove_upcaster_plan, args, NULL, SPI_OK_DELETE);
}

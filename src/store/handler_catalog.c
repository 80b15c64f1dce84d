/*
 * handler_catalog.c
 *	  Registered handlers, upcasters and decoders. Functions are stored by name, because a
 *	  restore or pg_upgrade gives them other OIDs. Their owners are stored as OIDs of
 *	  roles, so that renaming a role changes nothing.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "store/confirmed_code.h"
#include "store/function.h"
#include "store/handler_catalog.h"
#include "store/plan.h"
#include "utils/builtins.h"

#define UPCASTER_KEY "(u.from_version::text OPERATOR(pg_catalog.||) ':' OPERATOR(pg_catalog.||) u.event_type)"

static PsPlan handlers_plan = {
	.sql = "SELECT h.event_type, h.function, h.owner, " PS_IS_CONFIRMED("handler", "h.handler_id::text")
	" FROM profile_stream_internal.event_handlers h"
	" ORDER BY h.priority, h.handler_id",
	.fixed_schema = true
};

static PsPlan add_handler_plan = {
	.sql = "INSERT INTO profile_stream_internal.event_handlers (event_type, function, owner, priority)"
	" VALUES ($1, $2, $3, $4) ON CONFLICT (event_type, function) DO NOTHING RETURNING handler_id::text",
	.nargs = 4,.argtypes = {TEXTOID, TEXTOID, REGROLEOID, INT4OID},.fixed_schema = true
};

static PsPlan handler_plan = {
	.sql = "SELECT h.owner, " PS_IS_CONFIRMED("handler", "h.handler_id::text") " FROM profile_stream_internal.event_handlers h"
	" WHERE h.event_type = $1 AND h.function = $2",
	.nargs = 2,.argtypes = {TEXTOID, TEXTOID},.fixed_schema = true
};

static PsPlan remove_handler_plan = {
	.sql = "DELETE FROM profile_stream_internal.event_handlers h WHERE h.event_type = $1 AND h.function = $2",
	.nargs = 2,.argtypes = {TEXTOID, TEXTOID},.fixed_schema = true
};

static PsPlan upcasters_plan = {
	.sql = "SELECT u.event_type, u.function, u.owner, " PS_IS_CONFIRMED("upcaster", UPCASTER_KEY) ", u.from_version"
	" FROM profile_stream_internal.event_upcasters u"
	" ORDER BY u.event_type, u.from_version",
	.fixed_schema = true
};

static PsPlan add_upcaster_plan = {
	.sql = "INSERT INTO profile_stream_internal.event_upcasters (event_type, from_version, function, owner)"
	" VALUES ($1, $2, $3, $4) ON CONFLICT (event_type, from_version) DO NOTHING",
	.nargs = 4,.argtypes = {TEXTOID, INT4OID, TEXTOID, REGROLEOID},.fixed_schema = true
};

static PsPlan upcaster_plan = {
	.sql = "SELECT u.owner, " PS_IS_CONFIRMED("upcaster", UPCASTER_KEY) ", u.function FROM profile_stream_internal.event_upcasters u"
	" WHERE u.event_type = $1 AND u.from_version = $2",
	.nargs = 2,.argtypes = {TEXTOID, INT4OID},.fixed_schema = true
};

static PsPlan remove_upcaster_plan = {
	.sql = "DELETE FROM profile_stream_internal.event_upcasters u WHERE u.event_type = $1 AND u.from_version = $2",
	.nargs = 2,.argtypes = {TEXTOID, INT4OID},.fixed_schema = true
};

static PsPlan decoders_plan = {
	.sql = "SELECT d.stream_id::text, d.function, d.owner, " PS_IS_CONFIRMED("decoder", "d.stream_id::text")
	" FROM profile_stream_internal.stream_decoders d",
	.fixed_schema = true
};

static PsPlan set_decoder_plan = {
	.sql = "INSERT INTO profile_stream_internal.stream_decoders (stream_id, function, owner) VALUES ($1, $2, $3)"
	" ON CONFLICT (stream_id) DO UPDATE SET function = $2, owner = $3",
	.nargs = 3,.argtypes = {INT4OID, TEXTOID, REGROLEOID},.fixed_schema = true
};

static PsPlan remove_decoder_plan = {
	.sql = "DELETE FROM profile_stream_internal.stream_decoders d WHERE d.stream_id = $1",
	.nargs = 1,.argtypes = {INT4OID},.fixed_schema = true
};

/* A column of the last result, as the OID of a role. */
static Oid
get_role(uint64 row, int column)
{
	bool		isnull;

	return DatumGetObjectId(SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column, &isnull));
}

static bool
get_bool(uint64 row, int column)
{
	bool		isnull;

	return DatumGetBool(SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column, &isnull));
}

/* Makes the function of a row: what it is for, function, owner, confirmed. */
static PsFunction *
make_function(PsFunctionKind kind, uint64 row)
{
	return ps_function_make(kind, ps_plan_text(row, 2), get_role(row, 3), get_bool(row, 4));
}

void
ps_handlers_load(PsRules *rules)
{
	uint64		n = ps_plan_read(&handlers_plan, NULL);

	for (uint64 i = 0; i < n; i++)
	{
		PsEventRules *of_type = ps_rules_of_type(rules, ps_plan_text(i, 1));
		Size		size = (of_type->nhandlers + 1) * sizeof(PsFunction *);

		of_type->handlers = of_type->nhandlers == 0 ? palloc(size) : repalloc(of_type->handlers, size);
		of_type->handlers[of_type->nhandlers++] = make_function(PS_HANDLER, i);
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
			atoi(ps_plan_text(i, 5)), make_function(PS_UPCASTER, i)
		};
	}
	SPI_freetuptable(SPI_tuptable);
}

void
ps_decoders_load(PsRules *rules)
{
	uint64		n = ps_plan_read(&decoders_plan, NULL);

	rules->decoders = palloc(Max(n, 1) * sizeof(PsDecoder));
	for (uint64 i = 0; i < n; i++)
		rules->decoders[rules->ndecoders++] = (PsDecoder)
	{
		atoi(ps_plan_text(i, 1)), make_function(PS_DECODER, i)
	};
	SPI_freetuptable(SPI_tuptable);
}

bool
ps_handlers_add(const char *event_type, const char *function, Oid owner, int priority)
{
	Datum		args[4] = {CStringGetTextDatum(event_type), CStringGetTextDatum(function), ObjectIdGetDatum(owner), Int32GetDatum(priority)};

	if (ps_definitions_write(&add_handler_plan, args, NULL, SPI_OK_INSERT_RETURNING) == 0)
		return false;
	ps_confirm("handler", ps_plan_text(0, 1));
	return true;
}

bool
ps_upcasters_add(const char *event_type, int from_version, const char *function, Oid owner)
{
	Datum		args[4] = {CStringGetTextDatum(event_type), Int32GetDatum(from_version), CStringGetTextDatum(function), ObjectIdGetDatum(owner)};

	if (ps_definitions_write(&add_upcaster_plan, args, NULL, SPI_OK_INSERT) == 0)
		return false;
	ps_confirm("upcaster", psprintf("%d:%s", from_version, event_type));
	return true;
}

bool
ps_handlers_find(const char *event_type, const char *function, PsRegistered *registered)
{
	Datum		args[2] = {CStringGetTextDatum(event_type), CStringGetTextDatum(function)};

	if (ps_plan_run(&handler_plan, args, NULL, SPI_OK_SELECT) == 0)
		return false;
	registered->function = function;
	registered->owner = get_role(0, 1);
	registered->confirmed = get_bool(0, 2);
	return true;
}

bool
ps_upcasters_find(const char *event_type, int from_version, PsRegistered *registered)
{
	Datum		args[2] = {CStringGetTextDatum(event_type), Int32GetDatum(from_version)};

	if (ps_plan_run(&upcaster_plan, args, NULL, SPI_OK_SELECT) == 0)
		return false;
	registered->owner = get_role(0, 1);
	registered->confirmed = get_bool(0, 2);
	registered->function = ps_plan_text(0, 3);
	return true;
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

void
ps_decoder_set(int stream_id, const char *function, Oid owner)
{
	Datum		args[3] = {Int32GetDatum(stream_id), CStringGetTextDatum(function), ObjectIdGetDatum(owner)};

	(void) ps_definitions_write(&set_decoder_plan, args, NULL, SPI_OK_INSERT);
	ps_confirm("decoder", psprintf("%d", stream_id));
}

void
ps_decoder_remove(int stream_id)
{
	Datum		args[1] = {Int32GetDatum(stream_id)};

	(void) ps_plan_run(&remove_decoder_plan, args, NULL, SPI_OK_DELETE);
}

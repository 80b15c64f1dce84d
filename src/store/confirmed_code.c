/*
 * confirmed_code.c
 *	  Which definitions of code of users are confirmed, so that the code may run.
 *
 *	  A definition tells with whose rights its code runs. A restored dump, a
 *	  subscription or a superuser's statement could write any role there. So code runs
 *	  only if our own functions wrote its definition in this database, which a row of
 *	  confirmed_code proves. Two triggers protect that, in replicating sessions too:
 *	  one withdraws the confirmation when anybody else writes a definition; the other
 *	  refuses statements on confirmed_code, and skips rows that replication brings.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "lib/stringinfo.h"
#include "store/confirmed_code.h"
#include "store/owner.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/rel.h"

static PsPlan confirm_plan = {
	"INSERT INTO profile_stream_internal.confirmed_code (kind, key, confirmed_at) VALUES ($1, $2, pg_catalog.now()) ON CONFLICT DO NOTHING",
	2, {TEXTOID, TEXTOID}
};

static PsPlan withdraw_plan = {
	"DELETE FROM profile_stream_internal.confirmed_code c WHERE c.kind OPERATOR(pg_catalog.=) $1 AND c.key OPERATOR(pg_catalog.=) $2",
	2, {TEXTOID, TEXTOID}
};

static PsPlan unconfirmed_plan = {
	"SELECT d.kind, d.key, d.name, d.owner FROM profile_stream_internal.code_definitions d"
	" WHERE NOT d.confirmed AND ($1 IS NULL OR d.kind OPERATOR(pg_catalog.=) $1) AND ($2 IS NULL OR d.name OPERATOR(pg_catalog.=) $2)",
	2, {TEXTOID, TEXTOID}
};

static PsPlan exists_plan = {
	"SELECT 1 FROM profile_stream_internal.code_definitions d"
	" WHERE ($1 IS NULL OR d.kind OPERATOR(pg_catalog.=) $1) AND d.name OPERATOR(pg_catalog.=) $2 LIMIT 1",
	2, {TEXTOID, TEXTOID}
};

static bool writing = false;	/* true while a statement of our own runs */

uint64
ps_definitions_write(PsPlan *plan, Datum *args, const char *nulls, int expected)
{
	uint64		rows = 0;
	bool		before = writing;

	writing = true;
	PG_TRY();
	{
		rows = ps_plan_run(plan, args, nulls, expected);
	}
	PG_FINALLY();
	{
		writing = before;
	}
	PG_END_TRY();
	return rows;
}

void
ps_confirm(const char *kind, const char *key)
{
	Datum		args[2] = {CStringGetTextDatum(kind), CStringGetTextDatum(key)};

	(void) ps_definitions_write(&confirm_plan, args, NULL, SPI_OK_INSERT);
}

bool
ps_code_exists(const char *kind, const char *name)
{
	Datum		args[2] = {kind ? CStringGetTextDatum(kind) : (Datum) 0, CStringGetTextDatum(name)};
	uint64		n = ps_plan_run(&exists_plan, args, kind ? NULL : "n ", SPI_OK_SELECT);

	SPI_freetuptable(SPI_tuptable);
	return n > 0;
}

List *
ps_unconfirmed(const char *kind, const char *name)
{
	Datum		args[2] = {kind ? CStringGetTextDatum(kind) : (Datum) 0, name ? CStringGetTextDatum(name) : (Datum) 0};
	char		nulls[2] = {kind ? ' ' : 'n', name ? ' ' : 'n'};
	uint64		n = ps_plan_run(&unconfirmed_plan, args, nulls, SPI_OK_SELECT);
	List	   *definitions = NIL;

	for (uint64 i = 0; i < n; i++)
	{
		PsDefinition *definition = palloc(sizeof(PsDefinition));
		bool		isnull;

		definition->kind = ps_plan_text(i, 1);
		definition->key = ps_plan_text(i, 2);
		definition->name = ps_plan_text(i, 3);
		definition->owner = DatumGetObjectId(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 4, &isnull));
		definitions = lappend(definitions, definition);
	}
	SPI_freetuptable(SPI_tuptable);
	return definitions;
}

static TriggerData *
trigger_data(FunctionCallInfo fcinfo)
{
	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("this is a trigger function")));
	return (TriggerData *) fcinfo->context;
}

/* Withdraws the confirmation of a definition. The trigger's arguments are the kind and the key columns of its table. */
static void
confirmed_code_withdraw(const TriggerData *trigger, HeapTuple row)
{
	TupleDesc	desc = trigger->tg_relation->rd_att;
	PsSavedUser saved;
	StringInfoData key;
	Datum		args[2];

	initStringInfo(&key);
	for (int i = 1; i < trigger->tg_trigger->tgnargs; i++)
		appendStringInfo(&key, "%s%s", i > 1 ? ":" : "",
						 SPI_getvalue(row, desc, SPI_fnumber(desc, trigger->tg_trigger->tgargs[i])));
	args[0] = CStringGetTextDatum(trigger->tg_trigger->tgargs[0]);
	args[1] = CStringGetTextDatum(key.data);
	SPI_connect();
	saved = ps_switch_to_owner();
	(void) ps_definitions_write(&withdraw_plan, args, NULL, SPI_OK_DELETE);
	ps_restore_user(saved);
	SPI_finish();
}

PG_FUNCTION_INFO_V1(ps_definition_written);
Datum
ps_definition_written(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = trigger_data(fcinfo);
	bool		update = TRIGGER_FIRED_BY_UPDATE(trigger->tg_event);
	HeapTuple	row = update ? trigger->tg_newtuple : trigger->tg_trigtuple;

	if (writing && !TRIGGER_FIRED_BY_DELETE(trigger->tg_event))
		return PointerGetDatum(row);
	/* tells processes that have loaded the definition; a trigger for statements would not fire in a subscription */
	CacheInvalidateRelcache(trigger->tg_relation);
	if (update)
		confirmed_code_withdraw(trigger, trigger->tg_trigtuple);
	confirmed_code_withdraw(trigger, row);
	return PointerGetDatum(row);
}

PG_FUNCTION_INFO_V1(ps_guard_confirmed);
Datum
ps_guard_confirmed(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = trigger_data(fcinfo);

	/* skipped and not refused: an error would stop a subscription that has all tables */
	if (!writing && SessionReplicationRole == SESSION_REPLICATION_ROLE_REPLICA)
		return PointerGetDatum(NULL);
	if (!writing)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("confirmed_code cannot be written by a statement"),
				 errhint("Use confirm_code() or resume_stream() to confirm definitions that a restore or a subscription brought.")));
	return PointerGetDatum(TRIGGER_FIRED_BY_UPDATE(trigger->tg_event) ? trigger->tg_newtuple : trigger->tg_trigtuple);
}

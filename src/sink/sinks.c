/*
 * sinks.c
 *	  The sinks that this build has, from the list in store/stream.h.
 */
#include "postgres.h"

#include "sink/sink.h"

#define ROW(symbol, name, option, content, check, create, built) [symbol] = {check, built ? create : NULL},

static const struct
{
	void		(*check) (const PsStream *stream, PsSinkKind kind, Oid role);
	PsSink	   *(*create) (void);	/* NULL: not in this build */
}			functions[PS_SINK_KINDS] = {PS_SINKS(ROW)};

PsSink *
ps_sink_create(PsSinkKind kind, int stream_id)
{
	PsSink	   *sink;

	if (functions[kind].create == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("this build of profile_stream has no sink \"%s\"", ps_sinks[kind].name),
				 errhint("Install the client library (for redis: hiredis, in Debian libhiredis-dev) and build again with WITH_REDIS=yes.")));
	sink = functions[kind].create();
	sink->kind = kind;
	sink->stream_id = stream_id;
	sink->context = CurrentMemoryContext;
	sink->limit = PS_SINK_BATCH;
	return sink;
}

void
ps_sink_check(const PsStream *stream, PsSinkKind kind, Oid role)
{
	/* a stream that this build cannot deliver is refused before it begins */
	if (functions[kind].create == NULL)
		(void) ps_sink_create(kind, 0);
	functions[kind].check(stream, kind, role);
}

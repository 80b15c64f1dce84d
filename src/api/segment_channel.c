/*
 * segment_channel.c
 *	  The channels of notifications.
 */
#include "postgres.h"

#include "api/caller.h"
#include "apply/notify.h"
#include "fmgr.h"
#include "store/extension.h"
#include "store/secret.h"
#include "utils/builtins.h"

PS_FUNCTION(ps_segment_channel_sql);
static Datum
ps_segment_channel_sql_checked(PG_FUNCTION_ARGS)
{
	char	   *prefix = text_to_cstring(PG_GETARG_TEXT_PP(0));
	char	   *segment = text_to_cstring(PG_GETARG_TEXT_PP(1));

	ps_check_argument(prefix[0] != '\0' && strlen(prefix) <= PS_MAX_SEGMENT_PREFIX, "prefix must have 1 to 47 bytes");
	PG_RETURN_TEXT_P(cstring_to_text(ps_segment_channel(prefix, segment)));
}

PS_FUNCTION(ps_notification_channel);
static Datum
ps_notification_channel_checked(PG_FUNCTION_ARGS)
{
	char	   *name = text_to_cstring(PG_GETARG_TEXT_PP(0));

	ps_check_argument(strcmp(name, PS_UPDATES_CHANNEL) == 0 || strcmp(name, PS_SEGMENTS_CHANNEL) == 0,
					  "name must be profile_updates or segment_changes");
	PG_RETURN_TEXT_P(cstring_to_text(ps_secret_name(name)));
}

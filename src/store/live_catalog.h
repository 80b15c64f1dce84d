/*
 * live_catalog.h
 *	  The SQL of live segments: their rows, members, changes, and checks. Every call needs SPI.
 *
 *	  check		a moment at which a customer has to be looked at without an event
 */
#ifndef PS_LIVE_CATALOG_H
#define PS_LIVE_CATALOG_H

#include "postgres.h"

#include "core/event.h"
#include "datatype/timestamp.h"
#include "nodes/pg_list.h"

/* A live segment that is confirmed and not blocked. */
typedef struct PsLiveRecord
{
	uint32		id;
	char	   *name;
	char	   *predicate;
	Oid			owner;
	int64		quiet_us;
	bool		is_filling;		/* it has not seen all customers yet */
} PsLiveRecord;

/* Those segments, in the order of owners and numbers. */
extern List *ps_live_records(void);

/* A customer who enters or leaves a segment, and the last event that was applied before. */
typedef struct PsLiveMove
{
	const char *customer_id;
	const char *segment;
	bool		enters;
	int64		quiet_us;
	const PsEvent *event;		/* NULL: no event caused it */
	bool		is_quiet;		/* set when it is written: entering is not announced */
} PsLiveMove;

/* Changes memberships, and writes the changes. Sets is_quiet of the moves. */
extern void ps_live_moves_write(PsLiveMove *moves, int n, TimestampTz at);

/* Of which segments a customer is a member, as the table says: ids of segments by name, in pairs. */
typedef void (*PsLiveMemberNote) (void *arg, const char *customer_id, const char *segment);
extern void ps_live_members_read(const char **customer_ids, int n, PsLiveMemberNote note, void *arg);

typedef struct PsLiveCheck
{
	TimestampTz due_at;
	const char *customer_id;
} PsLiveCheck;

extern void ps_live_checks_add(const PsLiveCheck *checks, int n);
extern void ps_live_checks_remove(const PsLiveCheck *checks, int n);

/* Finds the first checks that are due at a moment; returns how many. */
extern int	ps_live_checks_due(TimestampTz at, int limit, PsLiveCheck *checks);

/* The next customers behind one; returns how many. */
extern int	ps_live_customers_after(const char *after, int limit, const char **customer_ids);

/*
 * Segments that have not seen all customers: up to which one, and the greatest of their numbers. False: there are none.
 * With a shard in use these are its customers. There the segments begin anew when it has come from another node.
 */
typedef struct PsLiveFilling
{
	const char *from;
	uint32		last_id;
} PsLiveFilling;

extern bool ps_live_filling(PsLiveFilling *filling);

/* Notes that these segments have seen the customers up to one, or all. */
extern void ps_live_fill_note(const PsLiveFilling *filling, const char *to);
extern void ps_live_fill_end(const PsLiveFilling *filling);

/*
 * Whether what rows of the shard in use know of segments is of this node, by whose segments all of its customers were seen. A node
 * numbers its segments by itself, and another one may have left some out.
 */
extern bool ps_live_shard_is_known(void);

/* Removes members of segments that do not exist: they were dropped while the shard in use was on another node. */
extern void ps_live_remove_strangers(void);

/* Customers who are members and have no profile any more are to be looked at. */
extern void ps_live_checks_add_gone(void);

#endif							/* PS_LIVE_CATALOG_H */

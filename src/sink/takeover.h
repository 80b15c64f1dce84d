/*
 * takeover.h
 *	  What is pending in a shard of distributed profiles moves with the shard. The node
 *	  that had it may still be delivering it, and its documents are older. So the relay of
 *	  the node that gets the shard first shuts that writer out of the sink, then makes the
 *	  rows its own, and only then delivers them.
 *
 *	  Who delivers has read under the fence of the shards, over a connection that was made
 *	  before. So whoever was shut out after the move has nothing under way that he read
 *	  before it, and makes another connection before he reads again.
 */
#ifndef PS_TAKEOVER_H
#define PS_TAKEOVER_H

#include "sink/relay.h"

/* Whether the relay has to connect before it reads, and to own what it reads. */
extern bool ps_takeover_matters(const PsRelay *relay);

/* Whether all that is pending is this node's, as the catalogue was read last. */
extern bool ps_takeover_is_done(const PsRelay *relay);

/* Looks for rows of other writers, unless that is known. If there are any, the next connection shuts them out. */
extern void ps_takeover_look(PsRelay *relay);

/* Makes the rows of those who were shut out this node's, unless shards have moved meanwhile. */
extern void ps_takeover_finish(PsRelay *relay);

#endif							/* PS_TAKEOVER_H */

/*
 * rule_catalog.h
 *	  Keeps the rules of event types in memory, and loads them from their tables again
 *	  when they have changed.
 */
#ifndef PS_RULE_CATALOG_H
#define PS_RULE_CATALOG_H

#include "core/event_rules.h"

/* Whether ps_rules_get() would read tables, for which it needs a transaction. */
extern bool ps_rules_are_stale(void);

/* How often this process has loaded the rules: what was decoded with others may be decoded otherwise now. */
extern uint64 ps_rules_loads(void);

/* Locks the tables of the rules, as ps_lock_tables() does. */
extern void ps_rules_lock(void);

/* Tells every process to load the rules again, once the transaction commits. */
extern void ps_rules_tell(void);

/* The rules as this transaction sees them; valid until the next call. */
extern const PsRules *ps_rules_get(void);

/*
 * The same, but valid until they are released; until then ps_rules_get() returns
 * the same rules. Calls may be nested. After an error call ps_rules_release_all().
 */
extern const PsRules *ps_rules_hold(void);
extern void ps_rules_release(void);
extern void ps_rules_release_all(void);

/*
 * Adds a map that was checked. Returns NULL; or "" when the event type maps the
 * attribute already; or another event type that maps it in a way that conflicts.
 */
extern const char *ps_rules_add_map(const char *event_type, const PsAttributeMap *map);
extern bool ps_rules_remove_map(const char *event_type, const char *attribute);

#endif							/* PS_RULE_CATALOG_H */

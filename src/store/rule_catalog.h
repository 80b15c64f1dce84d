/*
 * rule_catalog.h
 *	  What users registered for event types: kept in tables, loaded into memory, and
 *	  loaded again after it has changed.
 */
#ifndef PS_RULE_CATALOG_H
#define PS_RULE_CATALOG_H

#include "core/event_rules.h"

/* Whether ps_rules_get() would read tables, for which it needs a transaction. */
extern bool ps_rules_are_stale(void);

/* Locks what rules are read from against being dropped, as ps_lock_tables() does. */
extern void ps_rules_lock(void);

/* Tells every process to load the rules again, once the transaction commits. */
extern void ps_rules_tell(void);

/* The rules as committed or changed by this transaction; good until the next call. */
extern const PsRules *ps_rules_get(void);

/*
 * The same, good until they are released; whoever asks meanwhile gets these. May be
 * nested. After an error in between, ps_rules_release_all().
 */
extern const PsRules *ps_rules_hold(void);
extern void ps_rules_release(void);
extern void ps_rules_release_all(void);

/* Adds a map that was checked; the event type that maps the attribute otherwise, or "" when this one maps it already, or NULL: done. */
extern const char *ps_rules_add_map(const char *event_type, const PsAttributeMap *map);
extern bool ps_rules_remove_map(const char *event_type, const char *attribute);

#endif							/* PS_RULE_CATALOG_H */

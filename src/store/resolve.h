/*
 * resolve.h
 *	  Statements that a caller without USAGE of the internal schema may run.
 */
#ifndef PS_RESOLVE_H
#define PS_RESOLVE_H

#include "postgres.h"

#include "parser/parse_node.h"
#include "store/plan.h"

/* Installs the hook that ends the owner's part of an analysis; called once a process. */
extern void ps_resolve_init(void);

/* For SPI_prepare_params(): the names of the statement are looked up with the rights of the tables' owner. arg: the PsPlan */
extern void ps_resolve_begin(ParseState *state, void *arg);

#endif							/* PS_RESOLVE_H */

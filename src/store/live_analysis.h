/*
 * live_analysis.h
 *	  What live_predicate.c and live_atom.c share while they compile a predicate.
 */
#ifndef PS_LIVE_ANALYSIS_H
#define PS_LIVE_ANALYSIS_H

#include "store/live_program.h"

typedef struct PsLiveAnalysis
{
	PsLivePool *pool;
	PsLivePredicate *predicate;
	Oid			view;			/* profiles */
	const char *why;			/* why it is not live, NULL: nothing speaks against it yet */
} PsLiveAnalysis;

/* live_atom.c: adds a parameter to the predicate, and returns the node that stands for it */
extern Param *ps_live_param_make(PsLiveAnalysis *analysis, PsLiveParam *param, Oid collation);

/* live_atom.c: replaces comparisons that change with time by atoms; notes a use of the time that is none */
extern Node *ps_live_atoms_make(Node *node, PsLiveAnalysis *analysis);

#endif							/* PS_LIVE_ANALYSIS_H */

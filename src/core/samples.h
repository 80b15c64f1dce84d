/*
 * samples.h
 *	  Packs the samples of an open chunk.
 */
#ifndef PS_SAMPLES_H
#define PS_SAMPLES_H

#include "core/window.h"

/* Adds a sample to a series; value NULL stands for 1. */
extern void ps_samples_add(PsSeries *series, TimestampTz at, Numeric value);

#endif							/* PS_SAMPLES_H */

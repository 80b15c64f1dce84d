/*
 * fuzz.h
 *	  Damaged events for tests of the decoder, and what must hold for its answer.
 */
#ifndef PS_FUZZ_H
#define PS_FUZZ_H

#include "common/pg_prng.h"
#include "core/format.h"
#include "message.h"

#define PS_FUZZ_MAX_BYTES 2048

/* Fills a buffer of PS_FUZZ_MAX_BYTES with a damaged event or with random bytes, and a message with them. */
extern void ps_fuzz_fill(pg_prng_state *prng, const PsFormatMap *format_map, char *bytes, PsMessage *message);

/* Some format with some sources; NULL: profile_event. */
extern PsFormatMap *ps_fuzz_envelope(pg_prng_state *prng);

/* What does not hold for a decoded event or for a rejection, NULL when all does. */
extern const char *ps_fuzz_check_event(const PsEvent *event, const PsDecodeSettings *settings);
extern const char *ps_fuzz_check_reject(const PsReject *reject);

/* fuzz_parsers.c: damages what the other parsers of foreign bytes read; what does not hold for their answers, NULL when all does. */
extern const char *ps_fuzz_parsers(pg_prng_state *prng);

#endif							/* PS_FUZZ_H */

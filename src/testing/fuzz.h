/*
 * fuzz.h
 *	  Makes damaged events for tests of the decoder, and checks its answers.
 */
#ifndef PS_FUZZ_H
#define PS_FUZZ_H

#include "common/pg_prng.h"
#include "core/format.h"
#include "message.h"

#define PS_FUZZ_MAX_BYTES 2048

/* A random int from 0 to max. */
extern int	ps_fuzz_int(pg_prng_state *prng, int max);

/* Fills a buffer of PS_FUZZ_MAX_BYTES with a damaged event or random bytes, and makes a message of them. */
extern void ps_fuzz_fill(pg_prng_state *prng, const PsFormatMap *format_map, char *bytes, PsMessage *message);

/* A random format with random sources; NULL: profile_event. */
extern PsFormatMap *ps_fuzz_envelope(pg_prng_state *prng);

/* Checks a decoded event, or a rejection; returns what is wrong with it, or NULL. */
extern const char *ps_fuzz_check_event(const PsEvent *event, const PsDecodeSettings *settings);
extern const char *ps_fuzz_check_reject(const PsReject *reject);

/* fuzz_parsers.c: gives damaged bytes to the other parsers; returns what is wrong with their answers, or NULL. */
extern const char *ps_fuzz_parsers(pg_prng_state *prng);

/* fuzz_packed.c: likewise what profiles have packed. */
extern const char *ps_fuzz_packed(pg_prng_state *prng);

#endif							/* PS_FUZZ_H */

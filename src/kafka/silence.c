/*
 * silence.c
 *	  Measures how long a client of Kafka waits for an answer.
 */
#include "postgres.h"

#include "kafka/option_list.h"
#include "kafka/silence.h"

#define INTERVALS 4				/* so many times the client would have asked, were it well */
#define LEAST_LIMIT_MS 30000
#define NEW_CLIENT_LIMIT_MS 900000	/* more than ten minutes, within which health() counts restarts */
#define TURN_MS 5000			/* a turn that takes longer was one of a process that was frozen or busy */

void
ps_silence_init(PsSilence *silence, List *options)
{
	memset(silence, 0, sizeof(PsSilence));
	silence->limit_ms = Max(LEAST_LIMIT_MS, INTERVALS * ps_kafka_interval_ms(options));
}

void
ps_silence_ask(PsSilence *silence)
{
	if (silence->lasts)
		return;
	silence->lasts = true;
	silence->us = 0;
	silence->looked_at = ps_clock_now();
}

void
ps_silence_end(PsSilence *silence, bool worked)
{
	silence->lasts = false;
	silence->worked |= worked;
}

bool
ps_silence_is_too_long(PsSilence *silence)
{
	PsMoment	now = ps_clock_now();

	if (!silence->lasts)
		return false;
	silence->us += Min(TURN_MS * INT64CONST(1000), now - silence->looked_at);
	silence->looked_at = now;
	return silence->us >= (silence->worked ? silence->limit_ms : NEW_CLIENT_LIMIT_MS) * INT64CONST(1000);
}

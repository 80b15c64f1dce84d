/*
 * silence.h
 *	  How long a client of Kafka waits for an answer. librdkafka reconnects by itself, but
 *	  not always: a client of 2.14.2 stayed away for minutes from a broker that was back,
 *	  which another client reached. So a process whose client hears nothing for long
 *	  ends, and the next one makes a new client.
 */
#ifndef PS_SILENCE_H
#define PS_SILENCE_H

#include "clock.h"
#include "nodes/pg_list.h"

typedef struct PsSilence
{
	int			limit_ms;		/* of a client that has worked */
	bool		worked;			/* it got once all that it asked for */
	bool		lasts;			/* it has asked, and no broker has answered since */
	int64		us;				/* how long, while the process ran */
	PsMoment	looked_at;
} PsSilence;

/* Of a new client with these options. */
extern void ps_silence_init(PsSilence *silence, List *options);

/* The client asks. */
extern void ps_silence_ask(PsSilence *silence);

/* A broker has answered; worked: with all that was asked for. */
extern void ps_silence_end(PsSilence *silence, bool worked);

/* Called each turn of the loop: whether a new client had better try. */
extern bool ps_silence_is_too_long(PsSilence *silence);

#endif							/* PS_SILENCE_H */

/*
 * option_list.c
 *	  Makes and compares lists of options.
 */
#include "postgres.h"

#include "kafka/option_list.h"

#define INTERVAL_MS 30000		/* librdkafka's default is five minutes, long for who waits for a new partition */

List *
ps_kafka_add_option(List *options, const char *name, const char *value)
{
	PsKafkaOption *option = palloc(sizeof(PsKafkaOption));

	option->name = pstrdup(name);
	option->value = pstrdup(value);
	return lappend(options, option);
}

int
ps_kafka_option_ms(List *options, const char *name, int fallback)
{
	ListCell   *cell;
	int			value = fallback;

	foreach(cell, options)
	{
		PsKafkaOption *option = lfirst(cell);

		if (strcmp(option->name, name) == 0 && atoi(option->value) > 0)
			value = atoi(option->value);
	}
	return value;
}

int
ps_kafka_interval_ms(List *options)
{
	return Min(INTERVAL_MS, ps_kafka_option_ms(options, "topic.metadata.refresh.interval.ms", INTERVAL_MS));
}

bool
ps_kafka_options_equal(List *a, List *b)
{
	ListCell   *x;
	ListCell   *y;

	forboth(x, a, y, b)
	{
		PsKafkaOption *one = lfirst(x);
		PsKafkaOption *other = lfirst(y);

		if (strcmp(one->name, other->name) != 0 || strcmp(one->value, other->value) != 0)
			return false;
	}
	return list_length(a) == list_length(b);
}

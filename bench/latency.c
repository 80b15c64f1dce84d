/*
 * latency.c
 *	  Measures the time from producing an event to seeing it: produces at a steady
 *	  rate, LISTENs, and asks for nothing else. A notification arrives after the
 *	  commit that makes its profile visible.
 *
 *	  latency brokers topic conninfo events-per-second seconds [file]
 *
 *	  The file gets lines of rate, percentile and milliseconds, with tabs between.
 */
#include "../test/tools/client.h"

#include <poll.h>
#include <string.h>
#include <time.h>

#include <libpq-fe.h>

#define WARM_UP_SECONDS 3
#define PATIENCE_SECONDS 30

static double
now(void)
{
	struct timespec at;

	clock_gettime(CLOCK_MONOTONIC, &at);
	return at.tv_sec + at.tv_nsec / 1e9;
}

static rd_kafka_t *
open_producer(const char *bootstrap_servers)
{
	rd_kafka_conf_t *conf = make_conf(bootstrap_servers);

	set_option(conf, "linger.ms", "0");
	set_option(conf, "acks", "1");
	return open_client(RD_KAFKA_PRODUCER, conf);
}

/* Each event is of a customer of its own, so that each has a notification of its own. */
static void
produce(rd_kafka_t *producer, const char *topic, long number)
{
	char		key[32];
	char		value[512];
	time_t		at = time(NULL);
	struct tm	utc;
	char		timestamp[32];
	int			key_len = snprintf(key, sizeof(key), "lat-%ld", number);
	int			len;

	strftime(timestamp, sizeof(timestamp), "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&at, &utc));
	len = snprintf(value, sizeof(value),
				   "{\"eventId\":\"%s-%ld\",\"customerId\":\"%s\",\"eventType\":\"transaction.completed\","
				   "\"payload\":{\"amount\":12.5,\"currency\":\"EUR\"},\"timestamp\":\"%s\","
				   "\"source\":\"core-banking\",\"schemaVersion\":1}", key, (long) at, key, timestamp);
	if (rd_kafka_producev(producer, RD_KAFKA_V_TOPIC(topic), RD_KAFKA_V_KEY(key, key_len),
						  RD_KAFKA_V_VALUE(value, len), RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY),
						  RD_KAFKA_V_END) != RD_KAFKA_RESP_ERR_NO_ERROR)
		die("produce", "refused");
	rd_kafka_poll(producer, 0);
}

/* Takes what has arrived; returns how many of our events became visible. */
static long
receive(PGconn *connection, const double *sent, double *latency, long n)
{
	PGnotify   *notification;
	long		received = 0;
	double		at = now();

	if (!PQconsumeInput(connection))
		die("connection", PQerrorMessage(connection));
	while ((notification = PQnotifies(connection)) != NULL)
	{
		const char *id = strstr(notification->extra, "\"lat-");
		long		number = id ? strtol(id + 5, NULL, 10) : -1;

		if (number >= 0 && number < n && latency[number] < 0)
		{
			latency[number] = at - sent[number];
			received++;
		}
		PQfreemem(notification);
	}
	return received;
}

static int
compare(const void *a, const void *b)
{
	double		x = *(const double *) a;
	double		y = *(const double *) b;

	return x < y ? -1 : x > y;
}

static void
write_percentiles(const char *name, double rate, const double *latency, long n)
{
	FILE	   *file = fopen(name, "w");

	if (file == NULL)
		die("file", name);
	for (int tenths = 1; tenths < 1000; tenths += tenths < 950 ? 10 : 1)
		fprintf(file, "%.0f/s\t%.1f\t1\t%.3f\n", rate, tenths / 10.0, 1000 * latency[n * tenths / 1000]);
	fclose(file);
}

int
main(int argc, char **argv)
{
	double		rate = argc >= 6 ? atof(argv[4]) : 0;
	long		warm_up = (long) (rate * WARM_UP_SECONDS);
	long		n = warm_up + (long) (rate * (argc >= 6 ? atof(argv[5]) : 0));
	double	   *sent = calloc(n + 1, sizeof(double));
	double	   *latency = calloc(n + 1, sizeof(double));
	long		produced = 0;
	long		received = 0;
	double		start;
	rd_kafka_t *producer;
	PGconn	   *connection;
	PGresult   *channel;

	if (n <= 0)
		die("usage", "latency brokers topic conninfo events-per-second seconds [file]");
	producer = open_producer(argv[1]);
	connection = PQconnectdb(argv[3]);
	channel = PQexec(connection, "SELECT 'LISTEN ' || quote_ident(profile_stream.notification_channel())");
	PQclear(PQexec(connection, PQgetvalue(channel, 0, 0)));
	PQclear(channel);
	if (PQstatus(connection) != CONNECTION_OK)
		die("connection", PQerrorMessage(connection));
	for (start = now(); received < n && now() - start < n / rate + PATIENCE_SECONDS;)
	{
		struct pollfd socket = {PQsocket(connection), POLLIN, 0};

		while (produced < n && now() - start >= produced / rate)
		{
			latency[produced] = -1;
			sent[produced] = now();
			produce(producer, argv[2], produced);
			produced++;
		}
		if (poll(&socket, 1, 1) > 0)
			received += receive(connection, sent, latency, produced);
	}
	if (received < n)
		die("lost", "not every event was announced");
	qsort(latency + warm_up, n - warm_up, sizeof(double), compare);
	if (argc > 6)
		write_percentiles(argv[6], rate, latency + warm_up, n - warm_up);
	printf("%ld events at %.0f/s: p50 %.1f ms, p90 %.1f ms, p99 %.1f ms, max %.1f ms\n", n - warm_up, rate,
		   1000 * latency[warm_up + (n - warm_up) / 2], 1000 * latency[warm_up + (n - warm_up) * 9 / 10],
		   1000 * latency[warm_up + (n - warm_up) * 99 / 100], 1000 * latency[n - 1]);
	return 0;
}

/*
 * mockbroker.c
 *	  A Kafka broker without Java, for the demo and for tests of logic: the
 *	  mock cluster inside librdkafka. It answers a waiting fetch only about
 *	  every 500 ms, so nothing may be timed with it.
 *
 *	  mockbroker topic:partitions ...
 *
 *	  Prints the bootstrap servers as its only line of output, then stays until
 *	  its standard input closes or SIGTERM or SIGINT comes. A line "topic code" there
 *	  has it answer for a topic with an error of Kafka, or again well with 0.
 */
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <librdkafka/rdkafka.h>
#include <librdkafka/rdkafka_mock.h>

static volatile sig_atomic_t stop_requested = 0;

static void
request_stop(int signo)
{
	(void) signo;
	stop_requested = 1;
}

/* Creates a topic given as name:partitions; exits when it cannot. */
static void
create_topic(rd_kafka_mock_cluster_t *cluster, const char *spec)
{
	char	   *name = strdup(spec);
	char	   *colon = name ? strrchr(name, ':') : NULL;
	int			partitions = 1;
	rd_kafka_resp_err_t err;

	if (name == NULL)
		exit(1);
	if (colon != NULL)
	{
		*colon = '\0';
		partitions = atoi(colon + 1);
	}
	if (*name == '\0' || partitions < 1)
	{
		fprintf(stderr, "mockbroker: \"%s\" is not topic:partitions\n", spec);
		exit(2);
	}
	err = rd_kafka_mock_topic_create(cluster, name, partitions, 1);
	if (err)
	{
		fprintf(stderr, "mockbroker: could not create topic \"%s\": %s\n", name, rd_kafka_err2str(err));
		exit(1);
	}
	free(name);
}

/* Takes a line of standard input; false at its end. */
static int
take_line(rd_kafka_mock_cluster_t *cluster)
{
	char		line[256];
	char		topic[250];
	int			code;

	if (fgets(line, sizeof(line), stdin) == NULL)
		return 0;
	if (sscanf(line, "%249s %d", topic, &code) == 2)
		rd_kafka_mock_topic_set_error(cluster, topic, code);
	return 1;
}

/* Returns when standard input closes or a signal asked for the end. */
static void
wait_for_end(rd_kafka_mock_cluster_t *cluster)
{
	struct pollfd input = {STDIN_FILENO, POLLIN, 0};

	while (!stop_requested)
	{
		if (poll(&input, 1, -1) < 0)
			continue;
		if (!take_line(cluster))
			break;
	}
}

int
main(int argc, char **argv)
{
	char		errstr[512];
	struct sigaction action;
	rd_kafka_t *handle;
	rd_kafka_mock_cluster_t *cluster;

	memset(&action, 0, sizeof(action));
	action.sa_handler = request_stop;
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGINT, &action, NULL);

	setvbuf(stdin, NULL, _IONBF, 0);	/* what poll() does not see must not stay in a buffer */
	handle = rd_kafka_new(RD_KAFKA_PRODUCER, rd_kafka_conf_new(), errstr, sizeof(errstr));
	if (handle == NULL)
	{
		fprintf(stderr, "mockbroker: %s\n", errstr);
		return 1;
	}
	cluster = rd_kafka_mock_cluster_new(handle, 1);
	if (cluster == NULL)
	{
		fprintf(stderr, "mockbroker: could not start\n");
		return 1;
	}
	for (int i = 1; i < argc; i++)
		create_topic(cluster, argv[i]);

	printf("%s\n", rd_kafka_mock_cluster_bootstraps(cluster));
	fflush(stdout);
	wait_for_end(cluster);

	rd_kafka_mock_cluster_destroy(cluster);
	rd_kafka_destroy(handle);
	return 0;
}

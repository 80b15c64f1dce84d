/*
 * kafka.c
 *	  The allow-list for librdkafka's options, and the options that are ours.
 *
 *	  An option is looked up here before librdkafka sees it: some keys run code
 *	  or read files while they are being set.
 */
#include "postgres.h"

#include <librdkafka/rdkafka.h>

#include "catalog/pg_authid.h"
#include "core/text.h"
#include "kafka.h"
#include "miscadmin.h"
#include "utils/acl.h"

#define PS_KAFKA_DEBUG "topic"	/* says which partition's leader is gone, as nothing else does */

#define TRANSACTION_MS 30000	/* after which Kafka ends the transaction of a producer that is gone */

typedef enum Allowed
{
	ANYONE,
	ADDRESS,					/* on servers only: who may use one must not send its secrets elsewhere */
	SECRET,						/* in user mappings only */
	FILES,						/* superusers and pg_read_server_files */
	SUPERUSER
} Allowed;

typedef enum Clients
{
	BOTH,
	CONSUMERS,					/* a producer does not get it */
	PRODUCERS
} Clients;

static const struct
{
	const char *name;
	Allowed		allowed;
	Clients		clients;
}			known_options[] = {
	{"bootstrap.servers", ADDRESS},
	{"client.id", ANYONE},
	{"client.rack", ANYONE},
	{"security.protocol", ANYONE},
	{"sasl.mechanism", ANYONE},
	{"sasl.mechanisms", ANYONE},
	{"ssl.ca.pem", ANYONE},
	{"ssl.certificate.pem", ANYONE},
	{"fetch.wait.max.ms", ANYONE, CONSUMERS},
	{"fetch.min.bytes", ANYONE, CONSUMERS},
	{"fetch.max.bytes", ANYONE, CONSUMERS},
	{"fetch.message.max.bytes", ANYONE, CONSUMERS},
	{"fetch.error.backoff.ms", ANYONE, CONSUMERS},
	{"receive.message.max.bytes", ANYONE},
	{"message.max.bytes", ANYONE, PRODUCERS},
	{"compression.codec", ANYONE, PRODUCERS},
	{"linger.ms", ANYONE, PRODUCERS},
	{"socket.timeout.ms", ANYONE},
	{"socket.keepalive.enable", ANYONE},
	{"socket.nagle.disable", ANYONE},
	{"socket.connection.setup.timeout.ms", ANYONE},
	{"reconnect.backoff.ms", ANYONE},
	{"reconnect.backoff.max.ms", ANYONE},
	{"metadata.max.age.ms", ANYONE},
	{"topic.metadata.refresh.interval.ms", ANYONE},
	{"broker.address.family", ANYONE},
	{"broker.address.ttl", ANYONE},
	{"api.version.request", ANYONE},
	{"sasl.username", SECRET},
	{"sasl.password", SECRET},
	{"ssl.key.pem", SECRET},
	{"ssl.key.password", SECRET},
	{"ssl.ca.location", FILES},
	{"ssl.crl.location", FILES},
	{"ssl.certificate.location", FILES},
	{"ssl.key.location", FILES},
	{"ssl.keystore.location", FILES},
	{"ssl.keystore.password", SECRET},
	{"enable.ssl.certificate.verification", SUPERUSER},
	{"ssl.endpoint.identification.algorithm", SUPERUSER},
	{"debug", SUPERUSER},
};

/* Raises that the option may not be set; the log shall not hold the statement, that may hold a secret. */
static void
refuse(const char *name, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_FDW_INVALID_OPTION_NAME),
			 errmsg("option \"%s\" is not allowed here", name),
			 errhint("%s", hint),
			 errhidestmt(true)));
}

/* Place of an option among those that are known, -1 when it is not. */
static int
find_option(const char *name)
{
	for (int i = 0; i < lengthof(known_options); i++)
		if (strcmp(known_options[i].name, name) == 0)
			return i;
	return -1;
}

void
ps_kafka_check_option(const char *name, const char *value, PsOptionPlace place, Oid role)
{
	int			found = find_option(name);

	if (found < 0)
		refuse(name, "doc/reference.md lists the options of librdkafka that may be set.");
	if (known_options[found].allowed == ADDRESS && place != PS_OPTION_SERVER)
		refuse(name, "Brokers are named by the server: CREATE SERVER ... OPTIONS (bootstrap_servers ...).");
	if (known_options[found].allowed == SECRET && place != PS_OPTION_USER_MAPPING)
		refuse(name, "Keep it in a user mapping: CREATE USER MAPPING ... OPTIONS (...).");
	if (place == PS_OPTION_SERVERS_STREAM &&
		(strncmp(name, "security.", 9) == 0 || strncmp(name, "sasl.", 5) == 0 || strncmp(name, "ssl.", 4) == 0))
		refuse(name, "How a password travels is for the server to say: ALTER SERVER ... OPTIONS (...).");
	if (known_options[found].allowed == FILES && !superuser_arg(role) &&
		!has_privs_of_role(role, ROLE_PG_READ_SERVER_FILES))
		refuse(name, "Options that read files are for members of pg_read_server_files.");
	if (known_options[found].allowed == SUPERUSER && !superuser_arg(role))
		refuse(name, "This option is for superusers.");
	if (strncmp(name, "sasl.mechanism", 14) == 0 && strcmp(value, "PLAIN") != 0 &&
		strcmp(value, "SCRAM-SHA-256") != 0 && strcmp(value, "SCRAM-SHA-512") != 0)
		refuse(name, "The mechanism must be PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512.");
	/* librdkafka's default mechanism is GSSAPI, which runs commands */
}

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

/* Sets one option, or raises with librdkafka's reason; never repeats the value. */
static void
set_option(rd_kafka_conf_t *conf, const char *name, const char *value)
{
	char		reason[256];

	if (rd_kafka_conf_set(conf, name, value, reason, sizeof(reason)) != RD_KAFKA_CONF_OK)
	{
		rd_kafka_conf_destroy(conf);
		ereport(ERROR,
				(errcode(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE),
				 errmsg("invalid value for option \"%s\"", name),
				 errhint("See CONFIGURATION.md of librdkafka %s for the values it takes.", rd_kafka_version_str()),
				 errhidestmt(true)));
	}
}

/* Sets defaults, then what the options say to this kind of client. */
static rd_kafka_conf_t *
make_conf(const PsKafkaOption *defaults, int ndefaults, List *options, Clients except)
{
	rd_kafka_conf_t *conf = rd_kafka_conf_new();
	ListCell   *cell;

	for (int i = 0; i < ndefaults; i++)
		set_option(conf, defaults[i].name, defaults[i].value);
	foreach(cell, options)
	{
		PsKafkaOption *option = lfirst(cell);

		if (known_options[find_option(option->name)].clients == except)
			continue;
		set_option(conf, option->name, strcmp(option->name, "debug") == 0
				   ? psprintf("%s," PS_KAFKA_DEBUG, option->value) : option->value);
	}
	return conf;
}

/* Makes a client of a configuration, which it then owns. */
static void *
make_client(rd_kafka_type_t type, rd_kafka_conf_t *conf)
{
	char		reason[256];
	rd_kafka_t *rk = rd_kafka_new(type, conf, reason, sizeof(reason));

	if (rk == NULL)
	{
		rd_kafka_conf_destroy(conf);
		ereport(ERROR,
				(errcode(ERRCODE_FDW_UNABLE_TO_CREATE_EXECUTION),
				 errmsg("could not create a Kafka client: %s", ps_text_of_error(reason))));
	}
	return rk;
}

void *
ps_kafka_create_consumer(List *options, const char *group_id)
{
	static const PsKafkaOption defaults[] = {
		{"queued.max.messages.kbytes", "32768"},
		/* compressed bytes, of which each may stand for thousands: little is decompressed at a time, */
		{"fetch.max.bytes", "65536"},
		{"message.max.bytes", "1000"},	/* or fetch.max.bytes would be raised to it; it is for producers */
		/* and librdkafka refuses by this what zstd, lz4 and snappy unpack to more, which stops a partition */
		{"receive.message.max.bytes", "1200000000"},
		{"fetch.error.backoff.ms", "100"},
		{"client.id", "profile_stream"},
		{"sasl.mechanism", "PLAIN"},
		{"debug", PS_KAFKA_DEBUG},
	};
	static const PsKafkaOption ours[] = {
		{"enable.auto.commit", "false"},
		{"enable.auto.offset.store", "false"},
		{"auto.offset.reset", "error"},
		{"isolation.level", "read_committed"},
		{"enable.partition.eof", "true"},
		{"max.poll.interval.ms", "86400000"},
		{"log.queue", "true"},
	};
	rd_kafka_conf_t *conf = make_conf(defaults, lengthof(defaults), options, PRODUCERS);

	for (int i = 0; i < lengthof(ours); i++)
		set_option(conf, ours[i].name, ours[i].value);
	set_option(conf, "group.id", group_id);
	rd_kafka_conf_set_events(conf, RD_KAFKA_EVENT_FETCH | RD_KAFKA_EVENT_ERROR |
							 RD_KAFKA_EVENT_OFFSET_COMMIT | RD_KAFKA_EVENT_LOG);
	return make_client(RD_KAFKA_CONSUMER, conf);
}

void *
ps_kafka_create_producer(List *options, const char *transactional_id)
{
	static const PsKafkaOption defaults[] = {
		{"client.id", "profile_stream"},
		{"sasl.mechanism", "PLAIN"},
		{"message.max.bytes", "20000000"},	/* the topic has the say */
		{"linger.ms", "5"},
	};
	static const PsKafkaOption ours[] = {
		{"enable.idempotence", "true"},
		{"partitioner", "murmur2_random"},	/* that of Kafka's own clients */
		{"topic.metadata.propagation.max.ms", "5000"},	/* then a topic is known not to exist */
		{"log.queue", "true"},
	};
	rd_kafka_conf_t *conf = make_conf(defaults, lengthof(defaults), options, CONSUMERS);
	int			timeout_ms = Max(TRANSACTION_MS, ps_kafka_option_ms(options, "socket.timeout.ms", 0));

	for (int i = 0; i < lengthof(ours); i++)
		set_option(conf, ours[i].name, ours[i].value);
	set_option(conf, "transactional.id", transactional_id);
	set_option(conf, "transaction.timeout.ms", psprintf("%d", timeout_ms));
	rd_kafka_conf_set_events(conf, RD_KAFKA_EVENT_DR | RD_KAFKA_EVENT_ERROR | RD_KAFKA_EVENT_LOG);
	return make_client(RD_KAFKA_PRODUCER, conf);
}

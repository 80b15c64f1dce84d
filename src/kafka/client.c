/*
 * client.c
 *	  The allow-list of librdkafka's options, and the options that every client has.
 *
 *	  The list is asked before librdkafka sees an option, because some options run code
 *	  or read files as soon as they are set.
 */
#include "postgres.h"

#include <librdkafka/rdkafka.h>

#include "catalog/pg_authid.h"
#include "core/text.h"
#include "kafka/client.h"
#include "kafka/secret_file.h"
#include "kafka/token.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/varlena.h"

#define MAX_DISTANCE 4			/* of a name and one that was perhaps meant, as in PostgreSQL's hints */
#define PS_KAFKA_DEBUG "topic"	/* only these log lines name a partition that has lost its leader */

#define SHORT_AGE_MS "100"		/* less than it takes to delete a topic and to make it again */

#define GSSAPI "GSSAPI"			/* Kerberos */
#define TRANSACTIONS "transactions" /* an option that librdkafka has not: whether a producer uses them */
#define TRANSACTION_MS 30000	/* Kafka then ends the transaction of a producer that is gone */

typedef enum Allowed
{
	ANYONE,
	ADDRESS,					/* on servers only: a user of the server must not send its secrets elsewhere */
	SECRET,						/* in user mappings only */
	FILES,						/* for superusers and members of pg_read_server_files */
	KERBEROS,					/* on servers of superusers only */
	SUPERUSER
} Allowed;

typedef enum Clients
{
	BOTH,
	CONSUMERS,					/* of consumers alone */
	PRODUCERS					/* of producers alone */
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
	{"sasl.username_file", FILES},
	{"sasl.password_file", FILES},
	{"ssl.key.password_file", FILES},
	{"ssl.keystore.password_file", FILES},
	{PS_TOKEN_FILE, FILES},
	{PS_TOKEN_EXTENSIONS, ANYONE},
	{TRANSACTIONS, ANYONE, PRODUCERS},
	{"sasl.kerberos.service.name", KERBEROS},
	{"enable.ssl.certificate.verification", SUPERUSER},
	{"ssl.endpoint.identification.algorithm", SUPERUSER},
	{"debug", SUPERUSER},
};

const char *
ps_kafka_version(void)
{
	return rd_kafka_version_str();
}

const char *
ps_kafka_version_built(void)
{
	/* the last byte of the number says whether it is a release */
	return psprintf("%d.%d.%d", RD_KAFKA_VERSION >> 24, (RD_KAFKA_VERSION >> 16) & 0xff, (RD_KAFKA_VERSION >> 8) & 0xff);
}

/* Whether a version like 2.10.1 is one of [from, to), each major × 10000 + minor × 100 + patch. */
static bool
version_between(const char *version, int from, int to)
{
	int			major = 0;
	int			minor = 0;
	int			patch = 0;
	int			number;

	(void) sscanf(version, "%d.%d.%d", &major, &minor, &patch);
	number = major * 10000 + minor * 100 + patch;
	return number >= from && number < to;
}

/* Whether a version keeps the id of a topic that is gone, in memory that it has freed, once it learns the new id. */
static bool
keeps_old_ids(const char *version)
{
	return version_between(version, 20400, 21000);
}

char *
ps_kafka_version_warning(const char *version)
{
	if (version_between(version, 21000, 21001))
		return psprintf("librdkafka %s has faults that 2.10.1 mends: use that or a later one, or one before 2.4.0.", version);
	if (!keeps_old_ids(version))
		return NULL;
	return psprintf("librdkafka %s may crash the server when a topic that it knows is deleted and at once created anew: use 2.10.1 or later, or one before 2.4.0.", version);
}

char *
ps_kafka_connect_hint(const char *error)
{
	if (strstr(error, "SCRAM") != NULL && version_between(rd_kafka_version_str(), 0, 20601))
		return psprintf("Correct the user mapping. If it is right: librdkafka %s cannot log in by SCRAM at a broker of Kafka 4; use 2.6.1 or later, or another mechanism.", rd_kafka_version_str());
	if (strstr(error, GSSAPI) != NULL || strstr(error, "No worthy mechs") != NULL)
		return "Check the keytab that KRB5_CLIENT_KTNAME in the environment of the server names, krb5.conf, and that the module of libsasl2 for GSSAPI is installed.";
	if (strstr(error, "uthorization failed") != NULL)
		return "Let the user with whom the server logs in describe and read the topics, by the ACLs of the broker.";
	if (strstr(error, "uthentication") != NULL || strstr(error, "OAUTHBEARER") != NULL)
		return "Correct the user mapping of the stream's server, or the file of the password or token that the server names.";
	if (strstr(error, "SSL") != NULL || strstr(error, "certificate") != NULL)
		return "Check the options ssl.* of the server: whom to trust, and a certificate of its own where the broker asks for one.";
	return "Check the brokers' addresses, and that they are reachable from the database server.";
}

/* Refuses an option. The log does not get the statement, because it may hold a secret. */
static void
client_refuse(const char *name, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_FDW_INVALID_OPTION_NAME),
			 errmsg("option \"%s\" is not allowed here", name),
			 errhint("%s", hint),
			 errhidestmt(true)));
}

static void
client_refuse_value(const char *name, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE),
			 errmsg("invalid value for option \"%s\"", name),
			 errhint("%s", hint),
			 errhidestmt(true)));
}

static bool
is_mechanism(const char *name)
{
	return strcmp(name, "sasl.mechanism") == 0 || strcmp(name, "sasl.mechanisms") == 0;
}

/* Index of an option in the list, -1 for an unknown one. */
static int
find_option(const char *name)
{
	for (int i = 0; i < lengthof(known_options); i++)
		if (strcmp(known_options[i].name, name) == 0)
			return i;
	return -1;
}

/* What to do about an option that is not in the list. */
static const char *
hint_unknown(const char *name)
{
	const char *all = "doc/reference/servers.md lists the options of librdkafka that may be set.";
	const char *nearest = NULL;
	int			distance = Min(MAX_DISTANCE, (int) strlen(name) / 2) + 1;

	for (int i = 0; i < lengthof(known_options) && strlen(name) < NAMEDATALEN; i++)
	{
		const char *known = known_options[i].name;
		int			found = varstr_levenshtein_less_equal(name, strlen(name), known, strlen(known), 1, 1, 1, distance - 1, true);

		if (found < distance)
		{
			distance = found;
			nearest = known;
		}
	}
	return nearest == NULL ? all : psprintf("Perhaps you meant \"%s\". %s", nearest, all);
}

void
ps_kafka_check_option(const char *name, const char *value, PsOptionPlace place, Oid role)
{
	int			found = find_option(name);

	if (found < 0)
		client_refuse(name, hint_unknown(name));
	if (known_options[found].allowed == ADDRESS && place != PS_OPTION_SERVER)
		client_refuse(name, "Brokers are named by the server: CREATE SERVER ... OPTIONS (bootstrap_servers ...).");
	if (known_options[found].allowed == SECRET && place != PS_OPTION_USER_MAPPING && place != PS_OPTION_FILES_MAPPING)
		client_refuse(name, "Keep it in a user mapping: CREATE USER MAPPING ... OPTIONS (...).");
	if (place == PS_OPTION_SERVERS_STREAM &&
		(strncmp(name, "security.", 9) == 0 || strncmp(name, "sasl.", 5) == 0 || strncmp(name, "ssl.", 4) == 0))
		client_refuse(name, "The server says how passwords are sent: ALTER SERVER ... OPTIONS (...).");
	if (place == PS_OPTION_FILES_MAPPING && !superuser_arg(role) &&
		(strncmp(name, "security.", 9) == 0 || is_mechanism(name) || strncmp(name, "ssl.ca.", 7) == 0))
		client_refuse(name, "The server says how the secrets of its files are sent: ALTER SERVER ... OPTIONS (...).");
	if (known_options[found].allowed == FILES && !superuser_arg(role) &&
		!has_privs_of_role(role, ROLE_PG_READ_SERVER_FILES))
		client_refuse(name, "Options that read files are for members of pg_read_server_files.");
	if (known_options[found].allowed == SUPERUSER && !superuser_arg(role))
		client_refuse(name, "This option is for superusers.");
	if (ps_secret_in_file(name) && !is_absolute_path(value))
		client_refuse_value(name, "The path of the file must be absolute.");
	if (is_mechanism(name) && strcmp(value, "PLAIN") != 0 && strcmp(value, "SCRAM-SHA-256") != 0 &&
		strcmp(value, "SCRAM-SHA-512") != 0 && strcmp(value, "OAUTHBEARER") != 0 && strcmp(value, GSSAPI) != 0)
		client_refuse_value(name, "The mechanism must be PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, OAUTHBEARER or GSSAPI.");
	/* who may name brokers for it could have the server log in to those of his own */
	if ((known_options[found].allowed == KERBEROS || (is_mechanism(name) && strcmp(value, GSSAPI) == 0)) &&
		(place != PS_OPTION_SERVER || !superuser_arg(role)))
		client_refuse(name, "By Kerberos the database server itself logs in. A superuser allows it: CREATE SERVER ... OPTIONS (\"sasl.mechanism\" 'GSSAPI').");
}

static bool
is_broker(const char *word)
{
	static const char *const protocols[] = {"plaintext", "ssl", "sasl_plaintext", "sasl_ssl"};
	const char *slash = strchr(word, '/');

	for (int i = 0; i < lengthof(protocols) && slash != NULL; i++)
	{
		size_t		len = strlen(protocols[i]);

		if (pg_strncasecmp(word, protocols[i], len) == 0 && strncmp(word + len, "://", 3) == 0)
			return word[len + 3] != '\0';
	}
	return slash == NULL;
}

void
ps_kafka_check_brokers(const char *brokers)
{
	char	   *rest = pstrdup(brokers);
	int			n = 0;
	bool		valid = true;

	for (char *word = strtok_r(rest, ", ", &rest); word != NULL; word = strtok_r(NULL, ", ", &rest), n++)
		valid &= is_broker(word);
	if (n == 0 || !valid)
		client_refuse_value("bootstrap_servers", "Write a host:port, or several with commas between them, such as 'kafka1:9092,kafka2:9092'.");
}

/* Sets one option, or raises. librdkafka's message repeats the value, so that it is left out for secrets. */
static void
set_option(rd_kafka_conf_t *conf, const char *name, const char *value)
{
	char		reason[256];
	int			known = find_option(name);

	if (rd_kafka_conf_set(conf, name, value, reason, sizeof(reason)) != RD_KAFKA_CONF_OK)
	{
		rd_kafka_conf_destroy(conf);
		reason[strcspn(reason, "\n")] = '\0';
		ereport(ERROR,
				(errcode(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE),
				 errmsg("invalid value for option \"%s\"", name),
				 known >= 0 && known_options[known].allowed == ANYONE && strstr(name, ".pem") == NULL ? errdetail("%s.", reason) : 0,
				 errhint("See CONFIGURATION.md of librdkafka %s for the values it takes.", rd_kafka_version_str()),
				 errhidestmt(true)));
	}
}

/* With GSSAPI librdkafka would run a command to get a ticket: never here. GSSAPI gets one by itself, from a keytab. */
static void
refuse_kinit(rd_kafka_conf_t *conf)
{
	set_option(conf, "sasl.kerberos.min.time.before.relogin", "0");
	set_option(conf, "sasl.kerberos.kinit.cmd", ":");
}

/* Makes a configuration: defaults first, then the options that this kind of client takes. */
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

		if (known_options[find_option(option->name)].clients == except || ps_token_option(option->name) || ps_secret_in_file(option->name) ||
			strcmp(option->name, TRANSACTIONS) == 0)
			continue;
		if (is_mechanism(option->name) && strcmp(option->value, GSSAPI) == 0)
			refuse_kinit(conf);
		set_option(conf, option->name, strcmp(option->name, "debug") == 0
				   ? psprintf("%s," PS_KAFKA_DEBUG, option->value) : option->value);
	}
	/* what is too old, librdkafka forgets properly */
	if (keeps_old_ids(rd_kafka_version_str()))
		set_option(conf, "metadata.max.age.ms", SHORT_AGE_MS);
	return conf;
}

bool
ps_kafka_transactions(List *options)
{
	ListCell   *cell;
	bool		wanted = true;

	foreach(cell, options)
	{
		PsKafkaOption *option = lfirst(cell);

		if (strcmp(option->name, TRANSACTIONS) == 0 && !parse_bool(option->value, &wanted))
			client_refuse_value(option->name, "Write true or false.");
	}
	return wanted;
}

/* Makes a client. It owns the configuration from then on. */
static void *
make_client(rd_kafka_type_t type, rd_kafka_conf_t *conf, List *options)
{
	char		reason[256];
	rd_kafka_t *rk;

	rd_kafka_conf_set_opaque(conf, ps_token_source(options));
	rk = rd_kafka_new(type, conf, reason, sizeof(reason));
	if (rk == NULL)
	{
		rd_kafka_conf_destroy(conf);
		ereport(ERROR,
				(errcode(ERRCODE_FDW_UNABLE_TO_CREATE_EXECUTION),
				 errmsg("could not create a Kafka client: %s", ps_text_of_error(reason))));
	}
	if (rd_kafka_opaque(rk) != NULL)
		ps_token_renew(rk);
	ereport(DEBUG1, (errmsg_internal("Kafka client \"%s\" is created", rd_kafka_name(rk))));
	return rk;
}

void *
ps_kafka_queue_logs(void *rk, int wakeup_fd)
{
	rd_kafka_queue_t *queue = rd_kafka_queue_new(rk);

	rd_kafka_set_log_queue(rk, queue);
	rd_kafka_queue_io_event_enable(queue, wakeup_fd, "x", 1);
	return queue;
}

static rd_kafka_conf_t *
consumer_conf(List *options, const char *group_id)
{
	static const PsKafkaOption defaults[] = {
		{"queued.max.messages.kbytes", "32768"},
		/* the limit is in compressed bytes, and each may become thousands: so a fetch is kept small */
		{"fetch.max.bytes", "65536"},
		/* librdkafka raises fetch.max.bytes to this option of producers */
		{"message.max.bytes", "1000"},
		/* librdkafka refuses a batch that unpacks to more, which stops its partition */
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
	rd_kafka_conf_set_events(conf, RD_KAFKA_EVENT_FETCH | RD_KAFKA_EVENT_ERROR | RD_KAFKA_EVENT_OFFSET_COMMIT |
							 RD_KAFKA_EVENT_LOG | RD_KAFKA_EVENT_OAUTHBEARER_TOKEN_REFRESH);
	return conf;
}

void *
ps_kafka_create_consumer(List *options, const char *group_id)
{
	return make_client(RD_KAFKA_CONSUMER, consumer_conf(options, group_id), options);
}

static rd_kafka_conf_t *
producer_conf(List *options, const char *transactional_id)
{
	static const PsKafkaOption defaults[] = {
		{"client.id", "profile_stream"},
		{"sasl.mechanism", "PLAIN"},
		{"message.max.bytes", "20000000"},	/* so that the limit of the topic counts */
		{"linger.ms", "5"},
	};

	/* with more requests on their way a repeated one could come behind its successors */
	static const PsKafkaOption plain[] = {
		{"acks", "all"},
		{"max.in.flight.requests.per.connection", "1"},
	};
	static const PsKafkaOption ours[] = {
		{"partitioner", "murmur2_random"},	/* as Kafka's Java clients do */
		{"topic.metadata.propagation.max.ms", "5000"},	/* how long a new topic may be unknown */
		{"log.queue", "true"},
	};
	bool		transactions = ps_kafka_transactions(options);
	rd_kafka_conf_t *conf = make_conf(defaults, lengthof(defaults), options, CONSUMERS);
	char	   *timeout_ms = psprintf("%d", Max(TRANSACTION_MS, ps_kafka_option_ms(options, "socket.timeout.ms", 0)));

	for (int i = 0; i < lengthof(ours); i++)
		set_option(conf, ours[i].name, ours[i].value);
	for (int i = 0; i < lengthof(plain) && !transactions; i++)
		set_option(conf, plain[i].name, plain[i].value);
	set_option(conf, "enable.idempotence", transactions ? "true" : "false");
	set_option(conf, transactions ? "transaction.timeout.ms" : "message.timeout.ms", timeout_ms);
	if (transactions)
		set_option(conf, "transactional.id", transactional_id);
	rd_kafka_conf_set_events(conf, RD_KAFKA_EVENT_DR | RD_KAFKA_EVENT_ERROR | RD_KAFKA_EVENT_LOG |
							 RD_KAFKA_EVENT_OAUTHBEARER_TOKEN_REFRESH);
	return conf;
}

void *
ps_kafka_create_producer(List *options, const char *transactional_id)
{
	return make_client(RD_KAFKA_PRODUCER, producer_conf(options, transactional_id), options);
}

/* The value of a numeric option, whether it was set or is the default. */
static int64
number_of(rd_kafka_conf_t *conf, const char *name)
{
	char		value[64] = "";
	size_t		size = sizeof(value);

	(void) rd_kafka_conf_get(conf, name, value, &size);
	return strtoll(value, NULL, 10);
}

/*
 * Why options conflict, NULL when they do not. These are the checks of rd_kafka_new(),
 * which a session cannot call: a client starts threads.
 */
static char *
find_conflict(rd_kafka_conf_t *consumer, rd_kafka_conf_t *producer)
{
	int64		message = number_of(consumer, "message.max.bytes");
	int64		fetch = number_of(consumer, "fetch.max.bytes");

	if (fetch < message)
		return psprintf("fetch.max.bytes must be at least " INT64_FORMAT, message);
	if (number_of(consumer, "receive.message.max.bytes") < fetch + 512)
		return psprintf("receive.message.max.bytes must be at least fetch.max.bytes and 512, which are " INT64_FORMAT, fetch + 512);
	if (number_of(consumer, "reconnect.backoff.max.ms") < number_of(consumer, "reconnect.backoff.ms"))
		return "reconnect.backoff.max.ms must be at least reconnect.backoff.ms";
	if (number_of(producer, "linger.ms") >= number_of(producer, "transaction.timeout.ms"))
		return psprintf("linger.ms must be less than " INT64_FORMAT, number_of(producer, "transaction.timeout.ms"));
	return NULL;
}

void
ps_kafka_check_values(List *options)
{
	rd_kafka_conf_t *consumer = consumer_conf(options, "check");
	rd_kafka_conf_t *producer = NULL;
	char	   *conflict;

	PG_TRY();
	{
		producer = producer_conf(options, "check");
	}
	PG_CATCH();
	{
		rd_kafka_conf_destroy(consumer);
		PG_RE_THROW();
	}
	PG_END_TRY();
	conflict = find_conflict(consumer, producer);
	rd_kafka_conf_destroy(consumer);
	rd_kafka_conf_destroy(producer);
	if (conflict != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE),
				 errmsg("the options conflict"),
				 errdetail("%s.", conflict),
				 errhint("The stream has the options of its server and its own. Leave out those that you do not need."),
				 errhidestmt(true)));
}

/*
 * Kafka Streams with a JDBC writer: a table of profiles by customer in Streams' own store (RocksDB and its changelog topic),
 * from which each new version of a profile goes to PostgreSQL, 1,000 in a batch. Streams' cache leaves out versions that a
 * newer one follows within a second. No ids of events are kept: what a producer sends twice counts twice, as does what
 * was read before a crash and not committed.
 *
 * The bench starts it; the broker, the topic and the database are in the environment. "progress N" on standard output says
 * how many events are in what the database has.
 */
import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.DeserializationFeature;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.math.BigDecimal;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.SQLException;
import java.sql.Types;
import java.time.Duration;
import java.time.OffsetDateTime;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Properties;
import java.util.TreeMap;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.processor.PunctuationType;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.KeyValueStore;

public final class Profiles {
	static final ObjectMapper JSON = new ObjectMapper().enable(DeserializationFeature.USE_BIG_DECIMAL_FOR_FLOATS);
	static final int BATCH = 1000;

	public static final class Profile {
		public long version;
		public String firstName = "", lastName = "", email = "", phone = "", preferredChannel = "app";
		public long accountCount;
		public BigDecimal totalBalance = BigDecimal.ZERO, transactionValue = BigDecimal.ZERO;
		public String lastTransactionAt, lastLoginAt, updatedAt;
		public Map<String, Long> eventCounts = new TreeMap<>();

		Profile apply(JsonNode event) {
			String type = event.get("eventType").asText(), at = event.get("timestamp").asText();
			JsonNode payload = event.path("payload");
			switch (type) {
				case "customer.profile.updated" -> {
					firstName = text(payload, "firstName", firstName);
					lastName = text(payload, "lastName", lastName);
					email = text(payload, "email", email);
					phone = text(payload, "phone", phone);
				}
				case "transaction.completed" -> {
					lastTransactionAt = at;
					transactionValue = transactionValue.add(payload.get("amount").decimalValue());
				}
				case "account.opened" -> {
					accountCount++;
					totalBalance = totalBalance.add(payload.path("initialBalance").decimalValue());
				}
				case "account.closed" -> accountCount = Math.max(0, accountCount - 1);
				case "session.started" -> {
					lastLoginAt = at;
					preferredChannel = text(payload, "channel", preferredChannel);
				}
				default -> { }
			}
			version++;
			updatedAt = at;
			eventCounts.merge(type, 1L, Long::sum);
			return this;
		}

		private static String text(JsonNode payload, String name, String otherwise) {
			String value = payload.path(name).asText("");
			return value.isEmpty() ? otherwise : value;
		}
	}

	/* Writes profiles to PostgreSQL; each task of Streams has one with a connection of its own. */
	static final class Writer implements Processor<String, Profile, Void, Void> {
		private static final String UPSERT = "INSERT INTO profiles AS p (customer_id, version, first_name, last_name, email, phone,"
			+ " account_count, total_balance, transaction_value, last_transaction_at, last_login_at, preferred_channel, event_counts,"
			+ " updated_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?::jsonb, ?) ON CONFLICT (customer_id) DO UPDATE SET"
			+ " version = excluded.version, first_name = excluded.first_name, last_name = excluded.last_name, email = excluded.email,"
			+ " phone = excluded.phone, account_count = excluded.account_count, total_balance = excluded.total_balance,"
			+ " transaction_value = excluded.transaction_value, last_transaction_at = excluded.last_transaction_at,"
			+ " last_login_at = excluded.last_login_at, preferred_channel = excluded.preferred_channel,"
			+ " event_counts = excluded.event_counts, updated_at = excluded.updated_at WHERE p.version < excluded.version";
		private static long total;
		private final Map<String, Profile> pending = new LinkedHashMap<>();
		private final Map<String, Long> written = new HashMap<>();
		private Connection connection;

		@Override
		public void init(ProcessorContext<Void, Void> context) {
			try {
				connection = DriverManager.getConnection(System.getenv("JDBC_URL") + "&reWriteBatchedInserts=true");
				connection.setAutoCommit(false);
			} catch (SQLException e) {
				throw new IllegalStateException(e);
			}
			context.schedule(Duration.ofMillis(100), PunctuationType.WALL_CLOCK_TIME, time -> flush());
		}

		@Override
		public void process(Record<String, Profile> record) {
			pending.put(record.key(), record.value());
			if (pending.size() >= BATCH)
				flush();
		}

		private void flush() {
			if (pending.isEmpty())
				return;
			try (PreparedStatement statement = connection.prepareStatement(UPSERT)) {
				for (Map.Entry<String, Profile> entry : pending.entrySet()) {
					bind(statement, entry.getKey(), entry.getValue());
					statement.addBatch();
				}
				statement.executeBatch();
				connection.commit();
			} catch (SQLException | JsonProcessingException e) {
				throw new IllegalStateException(e);
			}
			pending.forEach((customer, profile) -> {
				Long before = written.put(customer, profile.version);
				total += profile.version - (before == null ? 0 : before);
			});
			pending.clear();
			System.out.println("progress " + total);
		}

		private static void bind(PreparedStatement statement, String customer, Profile profile) throws SQLException, JsonProcessingException {
			statement.setString(1, customer);
			statement.setLong(2, profile.version);
			statement.setString(3, profile.firstName);
			statement.setString(4, profile.lastName);
			statement.setString(5, profile.email);
			statement.setString(6, profile.phone);
			statement.setLong(7, profile.accountCount);
			statement.setBigDecimal(8, profile.totalBalance);
			statement.setBigDecimal(9, profile.transactionValue);
			setTime(statement, 10, profile.lastTransactionAt);
			setTime(statement, 11, profile.lastLoginAt);
			statement.setString(12, profile.preferredChannel);
			statement.setString(13, JSON.writeValueAsString(profile.eventCounts));
			setTime(statement, 14, profile.updatedAt);
		}

		private static void setTime(PreparedStatement statement, int position, String at) throws SQLException {
			statement.setObject(position, at == null ? null : OffsetDateTime.parse(at), Types.TIMESTAMP_WITH_TIMEZONE);
		}
	}

	static <T> Serde<T> json(Class<T> type) {
		return Serdes.serdeFrom((topic, value) -> {
			try {
				return value == null ? null : JSON.writeValueAsBytes(value);
			} catch (IOException e) {
				throw new UncheckedIOException(e);
			}
		}, (topic, bytes) -> {
			try {
				return bytes == null ? null : JSON.readValue(bytes, type);
			} catch (IOException e) {
				throw new UncheckedIOException(e);
			}
		});
	}

	public static void main(String[] args) {
		Properties settings = new Properties();
		settings.put(StreamsConfig.APPLICATION_ID_CONFIG, System.getenv("GROUP"));
		settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, System.getenv("BROKERS"));
		settings.put(StreamsConfig.STATE_DIR_CONFIG, System.getenv("SCRATCH"));
		settings.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, 1000);
		settings.put(StreamsConfig.STATESTORE_CACHE_MAX_BYTES_CONFIG, 64L << 20);
		settings.put("auto.offset.reset", "earliest");
		StreamsBuilder builder = new StreamsBuilder();
		builder.stream(System.getenv("TOPIC"), Consumed.with(Serdes.String(), json(JsonNode.class)))
			.groupByKey()
			.aggregate(Profile::new, (customer, event, profile) -> profile.apply(event),
				Materialized.<String, Profile, KeyValueStore<Bytes, byte[]>>as("profiles").withKeySerde(Serdes.String())
					.withValueSerde(json(Profile.class)))
			.toStream()
			.process(Writer::new);
		KafkaStreams streams = new KafkaStreams(builder.build(), settings);
		streams.setUncaughtExceptionHandler(e -> {
			e.printStackTrace();
			Runtime.getRuntime().halt(1);
			return null;
		});
		streams.start();
	}
}

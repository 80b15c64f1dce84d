// The service of "Real-Time Customer Profiles with Event Streaming": one event at a time is applied to a profile in memory,
// which then goes to Redis and to PostgreSQL. It keeps every profile in memory, forgets them at a restart, knows no ids of
// events, and its counters of windows never decrease. The bench starts it; the broker, the topic and the database are in the
// environment. "progress N" on standard output says how many events are written.
const { Kafka, logLevel } = require("kafkajs");
const Redis = require("ioredis");
const { Pool } = require("pg");

const CACHE_TTL_SECONDS = 300;

const HANDLERS = {
  "customer.profile.updated": (profile, { payload }) => {
    for (const name of ["firstName", "lastName", "email", "phone"]) if (payload[name]) profile[name] = payload[name];
  },
  "transaction.completed": (profile, { payload, timestamp }) => {
    profile.lastTransactionDate = timestamp;
    profile.transactionCount30d++;
    profile.totalTransactionValue30d += payload.amount;
  },
  "account.opened": (profile, { payload }) => {
    profile.accountCount++;
    profile.totalBalance += payload.initialBalance ?? 0;
  },
  "account.closed": (profile) => {
    profile.accountCount = Math.max(0, profile.accountCount - 1);
  },
  "session.started": (profile, { payload, timestamp }) => {
    profile.lastLoginDate = timestamp;
    profile.loginCount7d++;
    if (payload.channel) profile.preferredChannel = payload.channel;
  },
};

class ProfileMaterializer {
  profiles = new Map();

  apply(event) {
    const profile = this.getOrCreate(event.customerId);
    HANDLERS[event.eventType]?.(profile, event);
    profile.version++;
    profile.lastUpdatedAt = event.timestamp;
    profile.eventCounts[event.eventType] = (profile.eventCounts[event.eventType] ?? 0) + 1;
    return profile;
  }

  getOrCreate(customerId) {
    let profile = this.profiles.get(customerId);
    if (!profile) {
      profile = {
        customerId, version: 0, lastUpdatedAt: new Date(), firstName: "", lastName: "", email: "", phone: "", totalBalance: 0,
        accountCount: 0, lastTransactionDate: null, transactionCount30d: 0, totalTransactionValue30d: 0, lastLoginDate: null,
        loginCount7d: 0, preferredChannel: "app", segment: "unknown", churnRiskScore: 0, lifetimeValue: 0, eventCounts: {},
      };
      this.profiles.set(customerId, profile);
    }
    return profile;
  }
}

class ProfileServingLayer {
  redis = new Redis({ host: "127.0.0.1", port: Number(process.env.REDIS_PORT) });
  postgres = new Pool();

  async onProfileUpdated(profile) {
    const data = JSON.stringify(profile);
    await Promise.all([
      this.redis.setex(`profile:${profile.customerId}`, CACHE_TTL_SECONDS, data),
      this.postgres.query(
        `INSERT INTO materialized_profiles (customer_id, data, version, updated_at)
         VALUES ($1, $2, $3, $4)
         ON CONFLICT (customer_id) DO UPDATE
         SET data = $2, version = $3, updated_at = $4`,
        [profile.customerId, data, profile.version, profile.lastUpdatedAt],
      ),
    ]);
  }
}

function validateEvent(event) {
  return ["eventId", "customerId", "eventType", "timestamp"].filter((name) => !event[name]).map((name) => `Missing ${name}`);
}

async function main() {
  const materializer = new ProfileMaterializer();
  const serving = new ProfileServingLayer();
  const kafka = new Kafka({ brokers: [process.env.BROKERS], logLevel: logLevel.ERROR });
  const consumer = kafka.consumer({ groupId: process.env.GROUP });
  let applied = 0;
  let shown = 0;

  setInterval(() => {
    if (applied > shown) console.log(`progress ${(shown = applied)}`);
  }, 50);
  await consumer.connect();
  await consumer.subscribe({ topic: process.env.TOPIC, fromBeginning: true });
  await consumer.run({
    eachMessage: async ({ message }) => {
      const event = JSON.parse(message.value);
      const errors = validateEvent(event);
      if (errors.length > 0) throw new Error(errors.join(", "));
      event.timestamp = new Date(event.timestamp);
      await serving.onProfileUpdated(materializer.apply(event));
      applied++;
    },
  });
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});

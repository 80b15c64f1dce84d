#!/usr/bin/env node
// Reads profiles: from Redis, and what is not there by serve_profile(), which has the relay put it there. Never SETs a key.
//
//   examples/serve.js 127.0.0.1:6379 < ids     connects as node-postgres does: PGHOST, PGUSER, PGDATABASE, …
//
// Prints "redis" or "database" and the profile, or "unknown", a line for each id.
'use strict';

const readline = require('readline');
const { Client } = require('pg');
const redis = require('redis');

if (process.argv.length !== 3) {
  console.error('usage: examples/serve.js 127.0.0.1:6379 <ids');
  process.exit(2);
}

const PREFIX = 'profile:'; // the stream's redis_prefix

async function get(cache, client, customerId) {
  const cached = cache.isReady
    ? await cache.get(PREFIX + customerId).catch((error) => console.error(error.message)) // slower, not wrong
    : null;
  if (cached) return ['redis', cached];
  const { rows } = await client.query('SELECT profile_stream.serve_profile($1)::text AS profile', [customerId]);
  return ['database', rows[0].profile];
}

async function main() {
  const cache = redis.createClient({ url: `redis://${process.argv[2]}`, disableOfflineQueue: true });
  cache.on('error', (error) => console.error(error.message)); // it connects again by itself
  cache.connect().catch(() => {});
  await new Promise((resolve) => { cache.once('ready', resolve); setTimeout(resolve, 1000); });
  const client = new Client();
  await client.connect();
  for await (const customerId of readline.createInterface({ input: process.stdin })) {
    const [source, profile] = await get(cache, client, customerId);
    console.log(`${source} ${profile ?? 'unknown'}`);
  }
  await client.end();
  await cache.disconnect().catch(() => {});
  process.exit(0);
}

main();

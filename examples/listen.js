#!/usr/bin/env node
// Follows profiles with node-postgres: LISTEN, then what changed since the bookmark, then wait. Prints "version customer", and "by" the event if it was told.
//
//   examples/listen.js bookmark-file     connects as node-postgres does: PGHOST, PGUSER, PGDATABASE, …
//
// The file keeps the bookmark; without it every profile is told first.
'use strict';

const fs = require('fs');
const { Client } = require('pg');

const CATCH_UP_EVERY = 600000; // ms: what was announced while the server's queue was full, too
const bookmarkFile = process.argv[2];
if (process.argv.length !== 3) {
  console.error('usage: examples/listen.js bookmark-file');
  process.exit(2);
}

function changed(customerId, version, lastEvent) {
  console.log(`${version} ${customerId}` + (lastEvent ? ` by ${lastEvent.eventId}` : ''));
}

async function catchUp(client) {
  const bookmark = fs.existsSync(bookmarkFile) ? fs.readFileSync(bookmarkFile, 'utf8') : null;
  const { rows } = await client.query(
    'SELECT customer_id, version, next_bookmark FROM profile_stream.profiles_changed_since($1)', [bookmark]);
  for (const row of rows) changed(row.customer_id, row.version);
  if (rows.length > 0) { // only now: everything before it has been told
    fs.writeFileSync(`${bookmarkFile}.new`, rows[0].next_bookmark);
    fs.renameSync(`${bookmarkFile}.new`, bookmarkFile);
  }
}

// Ends, with an error, when the connection does.
async function follow(client) {
  let timer;
  try {
    await new Promise((resolve, reject) => {
      client.on('error', reject);
      client.on('end', () => reject(new Error('the connection has ended')));
      client.on('notification', (notification) => {
        const change = JSON.parse(notification.payload);
        if (change.customerId !== undefined) changed(change.customerId, change.version, change.lastEvent);
        else catchUp(client).catch(reject); // many at once: notify => 'batch', or swap_rebuild()
      });
      timer = setInterval(() => catchUp(client).catch(reject), CATCH_UP_EVERY);
      client.connect()
        .then(() => client.query('SELECT quote_ident(profile_stream.notification_channel()) AS channel'))
        .then((result) => client.query('LISTEN ' + result.rows[0].channel))
        .then(() => catchUp(client))
        .catch(reject);
    });
  } finally {
    clearInterval(timer);
    client.end().catch(() => {});
  }
}

async function main() {
  for (;;) {
    await follow(new Client({ keepAlive: true })).catch((error) => console.error(error.message));
    await new Promise((resolve) => setTimeout(resolve, 1000));
  }
}

main();

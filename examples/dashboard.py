#!/usr/bin/env python3
"""A support dashboard: a page that shows one customer's profile and follows its changes, by LISTEN and server-sent events.

    examples/dashboard.py [port]     connects as libpq does: PGHOST, PGUSER, PGDATABASE, ...

Then open http://127.0.0.1:8080/. It serves this machine only. In front of others put a proxy that knows who may see whom.
"""
import http.server
import json
import secrets
import select
import sys
import time
import urllib.parse

import psycopg

KEEP_ALIVE = 15  # seconds: so that the loss of a browser is noticed
NEWEST = "SELECT customer_id, first_name, last_name, segment FROM profile_stream.profiles ORDER BY updated_at DESC NULLS LAST LIMIT 50"
PROFILE = "SELECT profile_stream.get_profile(%s)"

PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Customers</title>
<style nonce="NONCE">
body { font: 15px/1.45 system-ui, sans-serif; margin: 0; display: flex; min-height: 100vh; color: #1d2733; background: #f3f5f8 }
nav { width: 15rem; padding: 1rem; background: #1d2733; overflow: auto; height: calc(100vh - 2rem) }
nav a { display: block; overflow-wrap: anywhere; padding: .25rem .5rem; color: #cfd8e3; text-decoration: none; border-radius: 4px }
nav a.chosen { background: #3b6fd4; color: #fff }
main { padding: 1.5rem 2rem; flex: 1; max-width: 60rem }
h1 { margin: 0 0 .2rem; font-size: 1.6rem }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(13rem, 1fr)); gap: .8rem; margin-top: 1rem }
.card { background: #fff; border-radius: 8px; padding: .7rem 1rem; box-shadow: 0 1px 2px #0002 }
.card b { display: block; font-size: 1.15rem; overflow-wrap: anywhere }
.card.wide { grid-column: 1 / -1 } .card.wide b { font-size: .9rem; font-weight: 500 }
.card.new { outline: 3px solid #f2b33d }
.label, #state { color: #64748b; font-size: .85rem }
ol { padding-left: 1.2rem }
</style>
<nav id="customers"></nav>
<main><h1 id="name">Choose a customer</h1><div id="state"></div><div class="cards" id="cards"></div><h2>Changes</h2><ol id="changes" reversed></ol></main>
<script nonce="NONCE">
'use strict';
// whatever is in the data becomes text and never HTML
const element = (tag, text, kind) => { const e = document.createElement(tag); e.textContent = text; if (kind) e.className = kind; return e; };
const byId = (id) => document.getElementById(id);
const shown = (value) => value === null || value === '' ? '–' : typeof value === 'object' ? JSON.stringify(value) : String(value);
let before = {};

function show(profile) {
  const cards = byId('cards');
  const changed = [];
  byId('name').textContent = [profile.firstName, profile.lastName].filter(Boolean).join(' ') || profile.customerId;
  byId('state').textContent = `${profile.customerId}, version ${profile.version}`;
  cards.replaceChildren();
  const nested = (value) => value !== null && typeof value === 'object';
  // what is one value comes first
  for (const [name, value] of Object.entries(profile).sort((a, b) => nested(a[1]) - nested(b[1]))) {
    if (['customerId', 'firstName', 'lastName', 'version'].includes(name)) continue;
    const isNew = before.version !== undefined && JSON.stringify(before[name]) !== JSON.stringify(value);
    const card = element('div', '', 'card' + (isNew ? ' new' : '') + (nested(value) ? ' wide' : ''));
    card.dataset.member = name;
    card.append(element('span', name, 'label'), element('b', shown(value)));
    cards.append(card);
    if (isNew && name !== 'lastUpdatedAt' && name !== 'eventCounts') changed.push(`${name}: ${shown(before[name])} → ${shown(value)}`);
  }
  if (before.version !== undefined && before.version !== profile.version)
    byId('changes').prepend(element('li', changed.join(', ') || 'another event'));
  before = profile;
}

async function start() {
  const chosen = new URLSearchParams(location.search).get('customer');
  for (const customer of await (await fetch('/customers')).json()) {
    const link = element('a', `${customer.name || customer.id} · ${customer.segment ?? 'not scored yet'}`, customer.id === chosen ? 'chosen' : '');
    link.href = '/?customer=' + encodeURIComponent(customer.id);
    byId('customers').append(link);
  }
  if (!chosen) return;
  const source = new EventSource('/follow?customer=' + encodeURIComponent(chosen)); // comes again by itself when the connection is lost
  source.addEventListener('profile', (event) => show(JSON.parse(event.data)));
  source.addEventListener('gone', () => { byId('name').textContent = 'No such customer'; byId('cards').replaceChildren(); before = {}; });
  source.onerror = () => { byId('state').textContent = 'connecting …'; };
}
start();
</script></html>
"""


class Handler(http.server.BaseHTTPRequestHandler):
    def reply(self, kind, body):
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Content-Security-Policy", f"default-src 'none'; connect-src 'self'; script-src 'nonce-{self.nonce}'; style-src 'nonce-{self.nonce}'; frame-ancestors 'none'")
        self.end_headers()
        self.wfile.write(body)

    def customers(self):
        with psycopg.connect(autocommit=True) as connection:
            rows = connection.execute(NEWEST).fetchall()
        customers = [{"id": row[0], "name": " ".join(name for name in row[1:3] if name), "segment": row[3]} for row in rows]
        self.reply("application/json", json.dumps(customers).encode())

    def send_profile(self, connection, customer_id):
        profile = connection.execute(PROFILE, [customer_id]).fetchone()[0]
        kind = "profile" if profile else "gone"
        self.wfile.write(f"event: {kind}\ndata: {json.dumps(profile)}\n\n".encode())  # JSON in one line
        self.wfile.flush()

    def follow(self, customer_id):
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        changed = []
        with psycopg.connect(autocommit=True) as connection:
            connection.add_notify_handler(lambda notify: changed.append(json.loads(notify.payload).get("customerId", customer_id)))
            connection.execute("LISTEN " + connection.execute("SELECT quote_ident(profile_stream.notification_channel())").fetchone()[0])
            self.send_profile(connection, customer_id)
            told_at = time.monotonic()
            while True:
                select.select([connection.fileno()], [], [], 1)
                connection.execute("SELECT 1")  # hands over what has come
                # what a refresh of scores changed is not announced there, so the profile is looked up now and then
                if customer_id in changed or time.monotonic() - told_at > KEEP_ALIVE:
                    self.send_profile(connection, customer_id)
                    told_at = time.monotonic()
                changed.clear()

    def do_GET(self):
        self.nonce = secrets.token_urlsafe(16)
        url = urllib.parse.urlsplit(self.path)
        customer_id = urllib.parse.parse_qs(url.query).get("customer", [""])[0]
        try:
            if url.path == "/":
                self.reply("text/html; charset=utf-8", PAGE.replace("NONCE", self.nonce).encode())
            elif url.path == "/customers":
                self.customers()
            elif url.path == "/follow" and customer_id:
                self.follow(customer_id)
            else:
                self.send_error(404)
        except (BrokenPipeError, ConnectionResetError):
            pass  # the browser has gone
        except psycopg.OperationalError as error:
            print(error, file=sys.stderr)  # the browser asks again

    def log_message(self, *_):
        pass


def main():
    if len(sys.argv) > 2 or not "".join(sys.argv[1:] or "0").isdigit():
        print(__doc__, file=sys.stderr)
        sys.exit(2)
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 8080
    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
    print(f"http://127.0.0.1:{server.server_port}/", flush=True)
    server.serve_forever()


main()

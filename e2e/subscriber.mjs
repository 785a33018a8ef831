// A GraphQL subscriber on the reference client, graphql-ws: runs operations over one socket and prints every event
// as a line of JSON.
//
//   WS_URL    ws://127.0.0.1:8080/graphql
//   TOKEN     sent in connection_init as {"Authorization": "Bearer …"}; optional
//   QUERIES   [{"name": "balance", "query": "subscription { … }", "variables": {}, "operationName": "…", "take": 3}]
//             or the first argument; an entry may be the query's text alone. take: complete after so many results.
//   RETRIES   how often to reconnect after the socket closed; 0 by default
//
// Lines: {"event": "connected", "payload"}, {"event": "next" | "error" | "complete", "name", "payload"} and
// {"event": "closed", "code", "reason"}. It exits when every operation has ended: with 0, or with 1 after any error.
import { createClient } from 'graphql-ws';
import WebSocket from 'ws';

const print = (line) => process.stdout.write(JSON.stringify(line) + '\n');
const { WS_URL, TOKEN, QUERIES, RETRIES } = process.env;
const operations = JSON.parse(QUERIES ?? process.argv[2] ?? '[]').map((o, i) => {
  const operation = typeof o === 'string' ? { query: o } : o;
  return { name: String(i), ...operation };
});
if (!WS_URL || operations.length === 0) {
  console.error('subscriber.mjs: WS_URL and QUERIES are needed');
  process.exit(2);
}

const client = createClient({
  url: WS_URL,
  webSocketImpl: WebSocket,
  connectionParams: TOKEN ? { Authorization: `Bearer ${TOKEN}` } : undefined,
  retryAttempts: Number(RETRIES ?? 0),
  retryWait: () => new Promise((resolve) => setTimeout(resolve, 200)),
  on: {
    connected: (_socket, payload, wasRetry) => print({ event: 'connected', payload, wasRetry }),
    closed: (e) => print({ event: 'closed', code: e?.code, reason: e?.reason?.toString() }),
  },
});

// describe makes JSON of what the client reports: GraphQL errors, a close event, or an Error.
const describe = (e) => {
  if (Array.isArray(e)) return e;
  if (e?.code !== undefined) return { code: e.code, reason: String(e.reason ?? e.message ?? '') };
  return { message: String(e?.message ?? e) };
};

const run = ({ name, take, ...payload }) =>
  new Promise((resolve) => {
    let seen = 0;
    const dispose = client.subscribe(payload, {
      next: (result) => {
        if (seen === take) return; // the client still hands out what had arrived when it was disposed of
        print({ event: 'next', name, payload: result });
        if (++seen === take) dispose();
      },
      error: (e) => {
        print({ event: 'error', name, payload: describe(e) });
        resolve(false);
      },
      complete: () => {
        print({ event: 'complete', name });
        resolve(true);
      },
    });
  });

const ended = await Promise.all(operations.map(run));
await client.dispose();
process.exitCode = ended.every(Boolean) ? 0 : 1;

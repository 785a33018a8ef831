// The official buyer, @x402/fetch 2.27.0: pays URL N times with KEY and prints latencies in milliseconds as one line
// of JSON. Environment: URL, KEY, N (default 1), CONCURRENCY (default 1), METHOD (default GET), BODY.
import { performance } from "node:perf_hooks";
import { privateKeyToAccount } from "viem/accounts";
import { ExactEvmScheme } from "@x402/evm/exact/client";
import { ExactEvmSchemeV1 } from "@x402/evm/exact/v1/client";
import { wrapFetchWithPayment, x402Client } from "@x402/fetch";

const { URL: url, KEY, METHOD = "GET", BODY } = process.env;
const n = Number(process.env.N ?? 1);
const signer = privateKeyToAccount(KEY);
const client = new x402Client().register("eip155:*", new ExactEvmScheme(signer)).registerV1("base-sepolia", new ExactEvmSchemeV1(signer));
const pay = wrapFetchWithPayment(fetch, client);

const times = [];
const failures = {};
let next = 0;
async function worker() {
  while (next++ < n) {
    const start = performance.now();
    try {
      const res = await pay(url, { method: METHOD, body: BODY });
      const text = await res.text();
      if (res.status !== 200) throw new Error(`${res.status} ${text.slice(0, 100)}`);
      times.push(performance.now() - start);
    } catch (err) {
      failures[String(err.message ?? err).slice(0, 200)] = (failures[String(err.message ?? err).slice(0, 200)] ?? 0) + 1;
    }
  }
}
const begin = performance.now();
await Promise.all(Array.from({ length: Number(process.env.CONCURRENCY ?? 1) }, worker));
const seconds = (performance.now() - begin) / 1000;
times.sort((a, b) => a - b);
const at = (q) => Number((times[Math.min(times.length - 1, Math.floor(q * times.length))] ?? NaN).toFixed(2));
console.log(JSON.stringify({ url, n, paid: times.length, failures, per_second: Number((times.length / seconds).toFixed(1)), min_ms: at(0), p50_ms: at(0.5), p95_ms: at(0.95), p99_ms: at(0.99), max_ms: at(1) }));
process.exit(Object.keys(failures).length ? 1 : 0);

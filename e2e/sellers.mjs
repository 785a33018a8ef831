// The official sellers: x402-express 1.2.0 (v1) and @x402/express 2.27.0 (v2), each with the facilitator of its own
// packages, settling on RPC_URL. Environment: RPC_URL, CHAIN_ID, FACILITATOR_KEY, PAY_TO, V1_PORT, V2_PORT (0: free).
// Prints one line of JSON with the URLs when ready; ends when stdin closes.
import express from "express";
import { createWalletClient, defineChain, http, publicActions } from "viem";
import { nonceManager, privateKeyToAccount } from "viem/accounts";
import { baseSepolia } from "viem/chains";

import { paymentMiddleware as paymentMiddlewareV1 } from "x402-express";
import { settle as settleV1, verify as verifyV1 } from "x402/facilitator";

import { x402Facilitator } from "@x402/core/facilitator";
import { HTTPFacilitatorClient } from "@x402/core/server";
import { toFacilitatorEvmSigner } from "@x402/evm";
import { ExactEvmScheme as ExactFacilitator } from "@x402/evm/exact/facilitator";
import { ExactEvmScheme as ExactServer } from "@x402/evm/exact/server";
import { UptoEvmScheme as UptoFacilitator } from "@x402/evm/upto/facilitator";
import { UptoEvmScheme as UptoServer } from "@x402/evm/upto/server";
import { paymentMiddleware as paymentMiddlewareV2, setSettlementOverrides, x402ResourceServer } from "@x402/express";
import { declareEip2612GasSponsoringExtension, EIP2612_GAS_SPONSORING } from "@x402/extensions";
import { createSIWxResourceServerExtension, declareSIWxExtension, InMemorySIWxStorage } from "@x402/extensions/sign-in-with-x";

const { RPC_URL, FACILITATOR_KEY, PAY_TO } = process.env;
const chainId = Number(process.env.CHAIN_ID ?? 84532);
if (chainId !== 84532) {
  throw new Error("the v1 packages know public networks only: CHAIN_ID must be 84532 (base-sepolia)");
}

// Both facilitators send from one account, so they share its nonce manager. The chain is viem's definition of Base
// Sepolia with our RPC in it, so that no code path falls back to a public node.
const chain = defineChain({ ...baseSepolia, rpcUrls: { default: { http: [RPC_URL] } } });
const account = privateKeyToAccount(FACILITATOR_KEY, { nonceManager });
const client = createWalletClient({ account, chain, transport: http(RPC_URL), pollingInterval: 25 }).extend(publicActions);

const priced = {
  "GET /weather": { price: "$0.01", description: "The weather." },
  "POST /echo": { price: "$0.02", description: "Your own words." },
  "GET /cheap": { price: "$0.0001", description: "A tenth of a tenth of a cent." },
};

// What version 2 sells besides, by Permit2: for a price, and for what the handler takes of a maximum. Sponsored routes hand in
// a permit of the buyer's, the bare one leaves Permit2's allowance to the buyer.
const sponsored = declareEip2612GasSponsoringExtension();
const byPermit2 = {
  "GET /permit2": { scheme: "exact", price: "$0.01", extra: { assetTransferMethod: "permit2" }, extensions: sponsored },
  "GET /permit2-bare": { scheme: "exact", price: "$0.01", extra: { assetTransferMethod: "permit2" } },
  "GET /upto": { scheme: "upto", price: "$0.05", extensions: sponsored },
};

function serveByPermit2(app) {
  app.get(["/permit2", "/permit2-bare"], (_req, res) => res.json({ ok: true }));
  app.get("/upto", (_req, res) => {
    setSettlementOverrides(res, { amount: "20000" });
    res.json({ used: 2 });
  });
  return app;
}

// member is for who has paid it once and signs in from then on.
const member = { "GET /member": { accepts: { scheme: "exact", price: "$0.01" }, extensions: declareSIWxExtension({ statement: "Sign in as a member." }) } };

function serve(app) {
  app.use(express.text({ type: () => true }));
  app.get("/weather", (req, res) => res.json({ city: req.query.city ?? "Lisbon", celsius: 21 }));
  app.post("/echo", (req, res) => res.json({ echo: req.body }));
  app.get("/cheap", (_req, res) => res.json({ ok: true }));
  app.get("/free", (_req, res) => res.json({ free: true }));
  return app;
}

function listen(app, port) {
  return new Promise((resolve, reject) => {
    const server = app.listen(Number(port ?? 0), "127.0.0.1", () => resolve(`http://127.0.0.1:${server.address().port}`));
    server.on("error", reject);
  });
}

// facilitator is the HTTP face of a facilitator (x402 specification, "Facilitator Interface").
function facilitator({ verify, settle, supported }) {
  const app = express();
  app.use(express.json());
  const answer = (f) => async (req, res) => {
    try {
      res.json(await f(req.body));
    } catch (err) {
      console.error(`facilitator: ${err.shortMessage ?? err.message}`); // viem's whole message repeats the ABI
      res.status(500).json({ error: err.shortMessage ?? err.message });
    }
  };
  app.post("/verify", answer(verify));
  app.post("/settle", answer(settle));
  app.get("/supported", answer(supported));
  return app;
}

async function v1() {
  const url = await listen(
    facilitator({
      verify: (b) => verifyV1(client, b.paymentPayload, b.paymentRequirements),
      settle: (b) => settleV1(client, b.paymentPayload, b.paymentRequirements),
      supported: () => ({ kinds: [{ x402Version: 1, scheme: "exact", network: "base-sepolia" }] }),
    }),
  );
  const routes = {};
  for (const [route, { price, description }] of Object.entries(priced)) {
    routes[route] = { price, network: "base-sepolia", config: { description, mimeType: "application/json" } };
  }
  const app = express();
  app.use(paymentMiddlewareV1(PAY_TO, routes, { url }));
  return listen(serve(app), process.env.V1_PORT);
}

async function v2() {
  const network = `eip155:${chainId}`;
  const signer = toFacilitatorEvmSigner({ ...client, address: account.address });
  const f = new x402Facilitator()
    .register(network, new ExactFacilitator(signer))
    .register(network, new UptoFacilitator(signer))
    .registerExtension(EIP2612_GAS_SPONSORING);
  const url = await listen(
    facilitator({
      verify: (b) => f.verify(b.paymentPayload, b.paymentRequirements),
      settle: (b) => f.settle(b.paymentPayload, b.paymentRequirements),
      supported: () => f.getSupported(),
    }),
  );
  const routes = {};
  for (const [route, { price, description }] of Object.entries(priced)) {
    routes[route] = { accepts: { scheme: "exact", price, network, payTo: PAY_TO }, description, mimeType: "application/json" };
  }
  for (const [route, { extensions, ...offer }] of Object.entries(byPermit2)) {
    routes[route] = { accepts: { ...offer, network, payTo: PAY_TO }, mimeType: "application/json", ...(extensions && { extensions }) };
  }
  for (const [route, { accepts, extensions }] of Object.entries(member)) {
    routes[route] = { accepts: { ...accepts, network, payTo: PAY_TO }, mimeType: "application/json", extensions };
  }
  const app = express();
  const origin = await listen(app, process.env.V2_PORT); // first: logins are for the port
  const server = new x402ResourceServer(new HTTPFacilitatorClient({ url }))
    .register(network, new ExactServer())
    .register(network, new UptoServer())
    .registerExtension(createSIWxResourceServerExtension({ storage: new InMemorySIWxStorage(), origin }));
  await server.initialize();
  app.use(paymentMiddlewareV2(routes, server, undefined, undefined, false));
  app.get("/member", (_req, res) => res.json({ member: true }));
  serveByPermit2(serve(app));
  return origin;
}

const [urlV1, urlV2] = await Promise.all([v1(), v2()]);
console.log(JSON.stringify({ v1: urlV1, v2: urlV2, facilitator: account.address }));
process.stdin.resume();
process.stdin.on("end", () => process.exit(0));

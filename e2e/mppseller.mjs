// The official MPP seller, mppx 0.11.0: method evm, intent charge, settling on RPC_URL by its own account; its 402 asks by
// x402 v2, too. Environment: RPC_URL, CHAIN_ID, SELLER_KEY, PAY_TO. Prints one line of JSON with the URL when ready; ends
// when stdin closes.
import express from "express";
import { Mppx, evm } from "mppx/express";
import { createWalletClient, defineChain, http, parseAbi, publicActions } from "viem";
import { privateKeyToAccount } from "viem/accounts";

const { RPC_URL, SELLER_KEY, PAY_TO } = process.env;
const chainId = Number(process.env.CHAIN_ID ?? 84532);
const usdc = "0x036CbD53842c5426634e7929541eC2318f3dCF7e";
const chain = defineChain({ id: chainId, name: "test", nativeCurrency: { name: "Ether", symbol: "ETH", decimals: 18 }, rpcUrls: { default: { http: [RPC_URL] } } });
const account = privateKeyToAccount(SELLER_KEY);
const client = createWalletClient({ account, chain, transport: http(RPC_URL), pollingInterval: 25 }).extend(publicActions);
const abi = parseAbi([
  "function transferWithAuthorization(address from, address to, uint256 value, uint256 validAfter, uint256 validBefore, bytes32 nonce, bytes signature)",
]);

// One settlement after the other: viem's nonce manager leaves a gap when one is sent while the next asks for its nonce, and
// what stands behind a gap is never mined.
let last = Promise.resolve();
function settle(proof) {
  last = last.then(() => settleNow(proof), () => settleNow(proof));
  return last;
}

async function settleNow({ payload }) {
  const { request } = await client.simulateContract({
    address: usdc, abi, functionName: "transferWithAuthorization", account,
    args: [payload.from, payload.to, BigInt(payload.value), BigInt(payload.validAfter), BigInt(payload.validBefore), payload.nonce, payload.signature],
  });
  const hash = await client.writeContract(request);
  const receipt = await client.waitForTransactionReceipt({ hash });
  if (receipt.status !== "success") throw new Error("settlement reverted");
  return { reference: hash };
}

const mppx = Mppx.create({
  secretKey: "a secret of the test seller, long enough",
  methods: [evm.charge({ chainId, currency: usdc, decimals: 6, authorization: { name: "USDC", version: "2" }, recipient: PAY_TO, settle })],
});

const app = express();
app.use(express.text({ type: () => true }));
app.get("/weather", mppx.charge({ amount: "0.01", description: "The weather, in Porto; \"sunny\"" }), (req, res) => res.json({ city: req.query.city ?? "Lisbon", celsius: 21 }));
app.post("/echo", mppx.charge({ amount: "0.02" }), (req, res) => res.json({ echo: req.body }));
app.get("/cheap", mppx.charge({ amount: "0.0001" }), (_req, res) => res.json({ ok: true }));

const server = app.listen(0, "127.0.0.1", () => console.log(JSON.stringify({ url: `http://127.0.0.1:${server.address().port}` })));
process.stdin.resume();
process.stdin.on("end", () => process.exit(0));

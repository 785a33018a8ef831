// The official x402 facilitators for Permit2, @x402/evm 2.27.0, schemes exact and upto: reads lines of JSON, {payload,
// requirements, amount}, and prints for each what settling it came to, {success, errorReason, transaction, amount}. The amount
// is what a seller decides to take of a maximum (scheme upto); without it all that was asked is settled.
// Environment: RPC_URL, CHAIN_ID, FACILITATOR_KEY. Ends when stdin closes.
import { createInterface } from "node:readline";
import { toFacilitatorEvmSigner } from "@x402/evm";
import { ExactEvmScheme } from "@x402/evm/exact/facilitator";
import { UptoEvmScheme } from "@x402/evm/upto/facilitator";
import { createWalletClient, defineChain, http, publicActions } from "viem";
import { privateKeyToAccount } from "viem/accounts";

const { RPC_URL, FACILITATOR_KEY } = process.env;
const chain = defineChain({ id: Number(process.env.CHAIN_ID), name: "test", nativeCurrency: { name: "Ether", symbol: "ETH", decimals: 18 }, rpcUrls: { default: { http: [RPC_URL] } } });
const account = privateKeyToAccount(FACILITATOR_KEY);
const client = createWalletClient({ account, chain, transport: http(RPC_URL), pollingInterval: 25 }).extend(publicActions);
const signer = toFacilitatorEvmSigner({ ...client, address: account.address });
const schemes = { exact: new ExactEvmScheme(signer), upto: new UptoEvmScheme(signer) };

for await (const line of createInterface({ input: process.stdin })) {
  const { payload, requirements, amount } = JSON.parse(line);
  const settled = await schemes[requirements.scheme].settle(payload, { ...requirements, ...(amount && { amount }) });
  console.log(JSON.stringify(settled));
}

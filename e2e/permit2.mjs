// The official x402 facilitators for Permit2, @x402/evm 2.27.0, schemes exact and upto: reads lines of JSON, {payload,
// requirements}, and prints for each what settling it came to, {success, errorReason, call}. The test chain has no Permit2, so
// that the last step, the call to the proxy, is printed instead of made; the token's own permit in it is handed in for real.
// Environment: RPC_URL, CHAIN_ID, FACILITATOR_KEY. Ends when stdin closes.
import { createInterface } from "node:readline";
import { toFacilitatorEvmSigner, PERMIT2_ADDRESS, x402ExactPermit2ProxyAddress, x402UptoPermit2ProxyAddress } from "@x402/evm";
import { ExactEvmScheme } from "@x402/evm/exact/facilitator";
import { UptoEvmScheme } from "@x402/evm/upto/facilitator";
import { createWalletClient, defineChain, http, parseAbi, publicActions } from "viem";
import { privateKeyToAccount } from "viem/accounts";

const { RPC_URL, FACILITATOR_KEY } = process.env;
const chain = defineChain({ id: Number(process.env.CHAIN_ID), name: "test", nativeCurrency: { name: "Ether", symbol: "ETH", decimals: 18 }, rpcUrls: { default: { http: [RPC_URL] } } });
const account = privateKeyToAccount(FACILITATOR_KEY);
const client = createWalletClient({ account, chain, transport: http(RPC_URL), pollingInterval: 25 }).extend(publicActions);
const isProxy = (address) => [x402ExactPermit2ProxyAddress, x402UptoPermit2ProxyAddress].includes(address);
const token = parseAbi(["function permit(address owner, address spender, uint256 value, uint256 deadline, uint8 v, bytes32 r, bytes32 s)"]);

let call; // what the proxy would have been asked
let asset;
const signer = toFacilitatorEvmSigner({
  ...client,
  address: account.address,
  readContract: (request) => (isProxy(request.address) ? undefined : client.readContract(request)), // a simulation that succeeds
  writeContract: (request) => {
    if (!isProxy(request.address)) throw new Error(`${request.address} is no proxy`);
    call = { proxy: request.address, function: request.functionName, args: request.args };
    if (request.functionName !== "settleWithPermit") return client.sendTransaction({ to: account.address });
    const [permit, ...rest] = request.args;
    const owner = rest.find((arg) => typeof arg === "string" && arg.length === 42); // upto has the amount before it
    return client.writeContract({ address: asset, abi: token, functionName: "permit", args: [owner, PERMIT2_ADDRESS, permit.value, permit.deadline, Number(permit.v), permit.r, permit.s] });
  },
});
const schemes = { exact: new ExactEvmScheme(signer), upto: new UptoEvmScheme(signer) };

for await (const line of createInterface({ input: process.stdin })) {
  const { payload, requirements } = JSON.parse(line);
  call = undefined;
  asset = requirements.asset;
  const { success, errorReason, errorMessage } = await schemes[requirements.scheme].settle(payload, requirements);
  console.log(JSON.stringify({ success, errorReason, errorMessage, call }, (_key, value) => (typeof value === "bigint" ? value.toString() : value)));
}

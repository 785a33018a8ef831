// viem's hashes of everything that a wallet of ours signs, under the types that the official packages export. Reads lines of
// JSON, {kind, chainId, domain?, message}, and prints one hash for each; ends when stdin closes.
import { createInterface } from "node:readline";
import { authorizationTypes, permit2WitnessTypes, uptoPermit2WitnessTypes, PERMIT2_ADDRESS, x402ExactPermit2ProxyAddress, x402UptoPermit2ProxyAddress } from "@x402/evm";
import { formatSIWEMessage } from "@x402/extensions/sign-in-with-x";
import { hashMessage, hashTypedData } from "viem";

const permit = {
  Permit: ["address owner", "address spender", "uint256 value", "uint256 nonce", "uint256 deadline"].map((f) => {
    const [type, name] = f.split(" ");
    return { name, type };
  }),
};
const permit2 = (types, spender) => ({ chainId, message }) =>
  hashTypedData({ domain: { name: "Permit2", chainId, verifyingContract: PERMIT2_ADDRESS }, types, primaryType: "PermitWitnessTransferFrom", message: { ...message, spender } });
const kinds = {
  authorization: ({ domain, message }) => hashTypedData({ domain, types: authorizationTypes, primaryType: "TransferWithAuthorization", message }),
  permit: ({ domain, message }) => hashTypedData({ domain, types: permit, primaryType: "Permit", message }),
  exact: permit2(permit2WitnessTypes, x402ExactPermit2ProxyAddress),
  upto: permit2(uptoPermit2WitnessTypes, x402UptoPermit2ProxyAddress),
  text: ({ message }) => hashMessage(message),
  login: ({ message }) => hashMessage(formatSIWEMessage(message, message.address)),
};

for await (const line of createInterface({ input: process.stdin })) {
  const input = JSON.parse(line);
  console.log(kinds[input.kind](input));
}

// Makes the *.abi and *.runtime files beside this one from the *.sol files. Needed only when a contract changes,
// which also changes the genesis hash and so asks for a new data folder (see genesis.go):
//
//   cd "$(mktemp -d)" && npm init -y && npm install solc@0.8.30
//   NODE_PATH=$PWD/node_modules node /path/to/chain/devnet/contracts/compile.cjs
//
// The settings are part of the genesis: runtime code must come out the same byte for byte.
const fs = require('fs');
const path = require('path');
const solc = require('solc');

if (!solc.version().startsWith('0.8.30+')) throw new Error('want solc 0.8.30, have ' + solc.version());

const sources = {};
for (const f of fs.readdirSync(__dirname).filter((f) => f.endsWith('.sol')).sort()) {
  sources[f] = { content: fs.readFileSync(path.join(__dirname, f), 'utf8') };
}
const out = JSON.parse(solc.compile(JSON.stringify({
  language: 'Solidity',
  sources,
  settings: {
    evmVersion: 'cancun',
    viaIR: true,
    optimizer: { enabled: true, runs: 10000 },
    metadata: { bytecodeHash: 'none', appendCBOR: false },
    outputSelection: { '*': { '*': ['abi', 'evm.deployedBytecode', 'storageLayout'] } },
  },
})));
const messages = (out.errors || []).map((e) => e.formattedMessage);
if (messages.length) throw new Error(messages.join('\n'));

for (const units of Object.values(out.contracts)) {
  for (const [name, c] of Object.entries(units)) {
    const code = c.evm.deployedBytecode;
    if (!code.object) continue; // an interface
    if (Object.keys(code.immutableReferences || {}).length) throw new Error(name + ' has immutables: it cannot be a predeploy');
    fs.writeFileSync(path.join(__dirname, name + '.abi'), JSON.stringify(c.abi) + '\n');
    fs.writeFileSync(path.join(__dirname, name + '.runtime'), code.object + '\n');
    const slots = c.storageLayout.storage.map((s) => s.slot + ':' + s.label).join(' ');
    process.stdout.write(`${name}: ${code.object.length / 2} bytes; storage ${slots}\n`);
  }
}

// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {PermitTransferFrom} from "./DevPermit2.sol";
import {DevX402Permit2Proxy} from "./DevX402Permit2Proxy.sol";

/// Development stand-in for x402ExactPermit2Proxy (x402, contracts/evm): anyone may settle, for the whole amount.
contract DevX402ExactPermit2Proxy is DevX402Permit2Proxy {
    string public constant WITNESS_TYPE_STRING =
        "Witness witness)TokenPermissions(address token,uint256 amount)Witness(address to,uint256 validAfter)";
    bytes32 public constant WITNESS_TYPEHASH = keccak256("Witness(address to,uint256 validAfter)");

    struct Witness { address to; uint256 validAfter; }

    function settle(PermitTransferFrom calldata permit, address owner, Witness calldata witness, bytes calldata signature) external nonReentrant {
        _pay(permit, owner, witness, signature);
        emit Settled();
    }

    function settleWithPermit(EIP2612Permit calldata permit2612, PermitTransferFrom calldata permit, address owner, Witness calldata witness, bytes calldata signature) external nonReentrant {
        _permit(permit, owner, permit2612);
        _pay(permit, owner, witness, signature);
        emit SettledWithPermit();
    }

    function _pay(PermitTransferFrom calldata permit, address owner, Witness calldata w, bytes calldata signature) private {
        bytes32 hash = keccak256(abi.encode(WITNESS_TYPEHASH, w.to, w.validAfter));
        _settle(permit, permit.permitted.amount, owner, w.to, w.validAfter, hash, WITNESS_TYPE_STRING, signature);
    }
}

// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {PermitTransferFrom} from "./DevPermit2.sol";
import {DevX402Permit2Proxy} from "./DevX402Permit2Proxy.sol";

/// Development stand-in for x402UptoPermit2Proxy (x402, contracts/evm): the witness's facilitator alone may settle, for
/// any amount up to the permitted one.
contract DevX402UptoPermit2Proxy is DevX402Permit2Proxy {
    string public constant WITNESS_TYPE_STRING =
        "Witness witness)TokenPermissions(address token,uint256 amount)Witness(address to,address facilitator,uint256 validAfter)";
    bytes32 public constant WITNESS_TYPEHASH = keccak256("Witness(address to,address facilitator,uint256 validAfter)");

    struct Witness { address to; address facilitator; uint256 validAfter; }

    error AmountExceedsPermitted();
    error UnauthorizedFacilitator();

    function settle(PermitTransferFrom calldata permit, uint256 amount, address owner, Witness calldata witness, bytes calldata signature) external nonReentrant {
        _may(permit, amount, witness);
        _pay(permit, amount, owner, witness, signature);
        emit Settled();
    }

    function settleWithPermit(EIP2612Permit calldata permit2612, PermitTransferFrom calldata permit, uint256 amount, address owner, Witness calldata witness, bytes calldata signature) external nonReentrant {
        _may(permit, amount, witness);
        _permit(permit, owner, permit2612);
        _pay(permit, amount, owner, witness, signature);
        emit SettledWithPermit();
    }

    function _may(PermitTransferFrom calldata permit, uint256 amount, Witness calldata w) private view {
        if (amount > permit.permitted.amount) revert AmountExceedsPermitted();
        if (msg.sender != w.facilitator) revert UnauthorizedFacilitator();
    }

    function _pay(PermitTransferFrom calldata permit, uint256 amount, address owner, Witness calldata w, bytes calldata signature) private {
        bytes32 hash = keccak256(abi.encode(WITNESS_TYPEHASH, w.to, w.facilitator, w.validAfter));
        _settle(permit, amount, owner, w.to, w.validAfter, hash, WITNESS_TYPE_STRING, signature);
    }
}

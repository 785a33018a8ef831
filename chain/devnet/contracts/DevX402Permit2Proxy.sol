// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {DevPermit2, PermitTransferFrom, SignatureTransferDetails} from "./DevPermit2.sol";
import {DevUSDC} from "./DevUSDC.sol";

/// What the stand-ins for the two proxies of x402 share. A proxy is the spender of a Permit2 signature, and pays the
/// witness's receiver and nobody else. The guard lives in transient storage: no constructor has to set it.
abstract contract DevX402Permit2Proxy {
    DevPermit2 public constant PERMIT2 = DevPermit2(0x000000000022D473030F116dDEE9F6B43aC78BA3);

    struct EIP2612Permit { uint256 value; uint256 deadline; bytes32 r; bytes32 s; uint8 v; }

    event Settled();
    event SettledWithPermit();
    event EIP2612PermitFailedWithReason(address indexed token, address indexed owner, string reason);
    event EIP2612PermitFailedWithPanic(address indexed token, address indexed owner, uint256 errorCode);
    event EIP2612PermitFailedWithData(address indexed token, address indexed owner, bytes data);

    error InvalidAmount();
    error InvalidOwner();
    error InvalidDestination();
    error PaymentTooEarly();
    error Permit2612AmountMismatch();
    error ReentrancyGuardReentrantCall();

    bool private transient entered;

    modifier nonReentrant() {
        if (entered) revert ReentrancyGuardReentrantCall();
        entered = true;
        _;
        entered = false;
    }

    function _settle(PermitTransferFrom calldata permit, uint256 amount, address owner, address to, uint256 validAfter, bytes32 witness, string memory witnessType, bytes calldata signature) internal {
        if (amount == 0) revert InvalidAmount();
        if (owner == address(0)) revert InvalidOwner();
        if (to == address(0)) revert InvalidDestination();
        if (block.timestamp < validAfter) revert PaymentTooEarly();
        PERMIT2.permitWitnessTransferFrom(permit, SignatureTransferDetails(to, amount), owner, witness, witnessType, signature);
    }

    /// A permit that fails is told of and no more: somebody may have handed it in before, or the allowance is there.
    function _permit(PermitTransferFrom calldata permit, address owner, EIP2612Permit calldata p) internal {
        if (p.value != permit.permitted.amount) revert Permit2612AmountMismatch();
        address token = permit.permitted.token;
        try DevUSDC(token).permit(owner, address(PERMIT2), p.value, p.deadline, p.v, p.r, p.s) {
        } catch Error(string memory reason) {
            emit EIP2612PermitFailedWithReason(token, owner, reason);
        } catch Panic(uint256 code) {
            emit EIP2612PermitFailedWithPanic(token, owner, code);
        } catch (bytes memory data) {
            emit EIP2612PermitFailedWithData(token, owner, data);
        }
    }
}

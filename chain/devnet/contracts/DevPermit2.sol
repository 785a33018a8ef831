// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {IERC1271} from "./DevUSDC.sol";

struct TokenPermissions { address token; uint256 amount; }
struct PermitTransferFrom { TokenPermissions permitted; uint256 nonce; uint256 deadline; }
struct SignatureTransferDetails { address to; uint256 requestedAmount; }

/// Development stand-in for Permit2 (Uniswap): the transfer of one token by a signature, with and without a witness.
/// Left out: allowances that are kept by Permit2 itself (approve, permit, transferFrom, lockdown) and the transfer of
/// several tokens by one signature. x402 uses neither; a call of them reverts without a reason.
/// No constructor and no immutables, as in DevUSDC. Storage: 0 nonce bitmaps.
contract DevPermit2 {
    mapping(address => mapping(uint256 => uint256)) public nonceBitmap;

    bytes32 private constant DOMAIN_TYPEHASH = keccak256("EIP712Domain(string name,uint256 chainId,address verifyingContract)");
    bytes32 private constant NAME_HASH = keccak256("Permit2");
    bytes private constant TOKENS_TYPE = "TokenPermissions(address token,uint256 amount)";
    bytes32 private constant TRANSFER_TYPEHASH = keccak256(abi.encodePacked(
        "PermitTransferFrom(TokenPermissions permitted,address spender,uint256 nonce,uint256 deadline)", TOKENS_TYPE));
    string private constant WITNESS_STUB =
        "PermitWitnessTransferFrom(TokenPermissions permitted,address spender,uint256 nonce,uint256 deadline,";

    event UnorderedNonceInvalidation(address indexed owner, uint256 word, uint256 mask);

    error InvalidAmount(uint256 maxAmount);
    error InvalidNonce();
    error SignatureExpired(uint256 signatureDeadline);
    error InvalidSignatureLength();
    error InvalidSignature();
    error InvalidSigner();
    error InvalidContractSignature();

    function DOMAIN_SEPARATOR() public view returns (bytes32) {
        return keccak256(abi.encode(DOMAIN_TYPEHASH, NAME_HASH, block.chainid, address(this)));
    }

    function permitTransferFrom(PermitTransferFrom calldata permit, SignatureTransferDetails calldata details, address owner, bytes calldata signature) external {
        _transfer(permit, details, owner, keccak256(abi.encode(TRANSFER_TYPEHASH, _tokens(permit), msg.sender, permit.nonce, permit.deadline)), signature);
    }

    function permitWitnessTransferFrom(PermitTransferFrom calldata permit, SignatureTransferDetails calldata details, address owner, bytes32 witness, string calldata witnessTypeString, bytes calldata signature) external {
        bytes32 typehash = keccak256(abi.encodePacked(WITNESS_STUB, witnessTypeString));
        _transfer(permit, details, owner, keccak256(abi.encode(typehash, _tokens(permit), msg.sender, permit.nonce, permit.deadline, witness)), signature);
    }

    function invalidateUnorderedNonces(uint256 wordPos, uint256 mask) external {
        nonceBitmap[msg.sender][wordPos] |= mask;
        emit UnorderedNonceInvalidation(msg.sender, wordPos, mask);
    }

    function _tokens(PermitTransferFrom calldata permit) private pure returns (bytes32) {
        return keccak256(abi.encode(keccak256(TOKENS_TYPE), permit.permitted));
    }

    function _transfer(PermitTransferFrom calldata permit, SignatureTransferDetails calldata details, address owner, bytes32 structHash, bytes calldata signature) private {
        if (block.timestamp > permit.deadline) revert SignatureExpired(permit.deadline);
        if (details.requestedAmount > permit.permitted.amount) revert InvalidAmount(permit.permitted.amount);
        uint256 bit = 1 << (permit.nonce & 255);
        uint256 used = nonceBitmap[owner][permit.nonce >> 8];
        if (used & bit != 0) revert InvalidNonce();
        nonceBitmap[owner][permit.nonce >> 8] = used | bit;
        _check(owner, keccak256(abi.encodePacked("\x19\x01", DOMAIN_SEPARATOR(), structHash)), signature);
        (bool ok, bytes memory out) = permit.permitted.token.call(
            abi.encodeWithSignature("transferFrom(address,address,uint256)", owner, details.to, details.requestedAmount));
        require(ok && (out.length == 0 || (out.length >= 32 && abi.decode(out, (uint256)) == 1)), "TRANSFER_FROM_FAILED");
    }

    function _check(address owner, bytes32 digest, bytes calldata signature) private view {
        if (owner.code.length != 0) {
            if (IERC1271(owner).isValidSignature(digest, signature) != IERC1271.isValidSignature.selector) revert InvalidContractSignature();
            return;
        }
        if (signature.length != 65 && signature.length != 64) revert InvalidSignatureLength();
        (bytes32 r, bytes32 s) = abi.decode(signature, (bytes32, bytes32));
        uint8 v;
        if (signature.length == 65) {
            v = uint8(signature[64]);
        } else { // EIP-2098: the highest bit of s is v
            v = uint8(uint256(s) >> 255) + 27;
            s = bytes32(uint256(s) << 1 >> 1);
        }
        address signer = ecrecover(digest, v, r, s);
        if (signer == address(0)) revert InvalidSignature();
        if (signer != owner) revert InvalidSigner();
    }
}

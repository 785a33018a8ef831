package pay

import (
	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/crypto"

	"bursar/money"
)

// Need is what protocols, which ask nobody, leave to the wallet to find out.
type Need struct {
	// Allowance is who must be allowed to take the money from the payer's wallet. Zero: nobody.
	Allowance common.Address
	// PermitNonce says that Permit wants the token's nonces(payer). Two permits of one wallet under one nonce exclude each
	// other, so that one must be done before the next is signed.
	PermitNonce bool
}

// Complete puts in what the chain says: what Needs.Allowance may take, and the token's next permit nonce of the payer. It
// leaves out a permit that is not needed, and refuses when one is needed that the seller does not hand in.
func (in Instruction) Complete(allowance money.USDC, permitNonce uint64) (Instruction, error) {
	if in.Kind == SignPermit2 {
		switch {
		case allowance >= in.Permit2.Amount:
			in.Permit = nil
		case in.Permit == nil:
			return in, Refusal(Unsupported, "Permit2 may take %s of the wallet's USDC, the offer needs %s", allowance, in.Permit2.Amount)
		}
	}
	if in.Permit != nil {
		p := *in.Permit
		p.Nonce = permitNonce
		in.Permit = &p
	}
	in.Needs = Need{}
	return in, nil
}

// PaymentIdentifier is what Proof.Identifier is for the payment of that id: the same at each try, and of no use to who sees
// the payment on the chain, since ids are not there.
func PaymentIdentifier(id [16]byte) string {
	return hexutil.Encode(crypto.Keccak256([]byte("bursar payment identifier"), id[:]))[2:]
}

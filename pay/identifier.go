package pay

import (
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/crypto"
)

// PaymentIdentifier is what Proof.Identifier is for the payment of that id: the same at each try, and of no use to who sees
// the payment on the chain, since ids are not there.
func PaymentIdentifier(id [16]byte) string {
	return hexutil.Encode(crypto.Keccak256([]byte("bursar payment identifier"), id[:]))[2:]
}

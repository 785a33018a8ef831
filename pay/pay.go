// Package pay is what every way of asking for money over HTTP has in common: offers, instructions, proofs and
// receipts, and the checks that stand between an offer and a signature. It is pure: no I/O, no keys, no clock.
// Each protocol is a folder below it.
package pay

import (
	"encoding/json"
	"net/http"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"bursar/evm"
	"bursar/money"
)

// Request is the call that the agent wants made, as it will be sent.
type Request struct {
	Method, URL string
	Header      http.Header
	Body        []byte
}

// Response is a service's answer. The caller bounds Body when it reads it.
type Response struct {
	Status int
	Header http.Header
	Body   []byte
}

// Offer is one way in which a service is willing to be paid: "pay this much, this way". It is plain data, so it
// can be stored between two steps.
type Offer struct {
	Protocol string         // Protocol.Name of who read it
	Scheme   string         // as the protocol names it, "exact"
	Network  evm.Network    // from the registry, never from the seller
	Asset    common.Address // the token
	Amount   money.USDC
	PayTo    common.Address
	Resource string        // what the seller says is sold: its text, untrusted
	ValidFor time.Duration // how long the seller wants the proof to be usable

	// Kind is what the wallet will have to do to take it.
	Kind InstructionKind
	// UpTo says that Amount is a maximum: what is charged is decided after the answer, and may be nothing.
	UpTo bool
	// Expires is when the challenge itself ends, in unix seconds, however long a proof might live; 0: it does not say.
	Expires int64

	// Refused is the reason why this offer cannot be taken, for people; Cause is its kind. Empty: it can.
	Refused string
	Cause   Cause
	// Notes are oddities that do not stop a payment, for the log.
	Notes []string

	// Raw is the chosen element as received, for protocols whose proof echoes it byte for byte.
	Raw json.RawMessage
	// Extra is the protocol's own: what Attach needs besides Raw.
	Extra json.RawMessage
}

// InstructionKind says what a wallet must do to take an offer.
type InstructionKind int

// Kinds of instruction, in the order in which they are preferred at the same price.
const (
	// None: nothing is signed or sent (metered services).
	None InstructionKind = iota
	// SignAuthorization: sign Authorization under Domain; the seller settles it.
	SignAuthorization
	// SignPermit2: sign Permit2; the seller settles it. It is worth something while the wallet lets that contract have the money.
	SignPermit2
	// SignPermit: sign Permit under Domain. The receiver is not signed: the spender may take the money to anybody, in parts,
	// until the allowance is used or taken back. The whole of it counts as spent until then.
	SignPermit
	// Transfer: send Amount to To on the chain first; the proof is the transaction's hash. It cannot be taken back, and
	// comes before the service has shown anything.
	Transfer
)

// String completes "the wallet is not set up to pay …".
func (k InstructionKind) String() string {
	switch k {
	case None:
		return "nothing"
	case SignAuthorization:
		return "by a signed authorization"
	case SignPermit2:
		return "by permit2"
	case SignPermit:
		return "by an allowance to the seller's facilitator"
	case Transfer:
		return "by a transfer on the chain before the answer"
	}
	return "in this way"
}

// Instruction is what the wallet must do to take an offer.
type Instruction struct {
	Kind InstructionKind
	// For SignAuthorization.
	Authorization evm.Authorization
	Domain        evm.Domain // of the token, for the others as well

	// For SignPermit2.
	Permit2 evm.Permit2Transfer

	// For SignPermit. Its nonce is the token's next one of the payer, which the wallet puts in. Nil: none.
	Permit *evm.Permit

	// For Transfer.
	To     common.Address
	Amount money.USDC
}

// Proof is what the wallet did: what it signed, or the hash of its transfer.
type Proof struct {
	Authorization evm.Authorization
	Permit2       evm.Permit2Transfer
	Permit        *evm.Permit
	Signature     []byte // of the authorization, of Permit2, or of Permit: what the instruction's kind names
	TxHash        common.Hash
	// Identifier names the payment to sellers that know a call by it (PaymentIdentifier). Empty: none.
	Identifier string
}

// Receipt is a seller's claim of what was charged. It proves nothing: payments are booked from the chain.
type Receipt struct {
	Known   bool // a receipt came and could be read
	Success bool
	TxHash  common.Hash
	Amount  money.USDC // never above the offer's amount
	Reason  string     // the seller's words when it refused, shortened; untrusted
}

// Wallet is who would pay: an address, and the one network on which it has money.
type Wallet struct {
	Network evm.Network
	Address common.Address
	// Also lists what the wallet may do besides signing authorizations; nothing, unless somebody has decided it.
	Also []InstructionKind
}

// Protocol translates one way a service asks for money. Every method is pure: no I/O, no keys, no clock. That
// makes a protocol a set of tables and tests, and keeps control flow in core.
type Protocol interface {
	// Name is unique among the protocols of the program; Offer.Protocol repeats it.
	Name() string

	// Offers reads what is asked. resp is nil before the first send, for what states its price then. An answer of
	// none without an error means "not mine". Offers that cannot be taken are listed too,
	// with Refused set; an error means that the challenge as a whole cannot be read.
	Offers(req *Request, resp *Response) ([]Offer, error)

	// Instruct says what the wallet must do to take the offer: sign this, transfer that, or nothing. It makes
	// the checks of Check again, apart from which network the payer is on.
	Instruct(o Offer, payer common.Address, now time.Time, nonce [32]byte) (Instruction, error)

	// Attach puts the proof on the request that will be sent again, and removes every other payment header. It
	// refuses a proof that does not fit the offer.
	Attach(req *Request, o Offer, p Proof) error

	// Receipt reads what was charged. A response without a receipt gives Known == false and no error.
	Receipt(o Offer, resp *Response) (Receipt, error)
}

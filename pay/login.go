package pay

import (
	"encoding/json"
	"time"
)

// Login is one that a service offers beside a challenge: a wallet that has paid there before signs who it is, and is served
// without paying again. The wallet signs evm.PersonalDigest(Message). Whether it may is for the user's policy to say.
type Login struct {
	Domain  string // the host called, as the service writes it
	Nonce   string // the service's own
	Message string // the whole text, printable ASCII and line ends

	// Extra is the protocol's own: what AttachLogin needs besides.
	Extra json.RawMessage
}

// LoginProtocol is a protocol whose challenges may offer a login.
type LoginProtocol interface {
	Protocol

	// Login reads the one that comes with an answer to the request. It returns nil when there is none for the wallet's network, and
	// *RefusedError for one that must not be signed: a login for another host would be one there.
	Login(req *Request, resp *Response, w Wallet, now time.Time) (*Login, error)

	// AttachLogin puts a signed login on a request, beside whatever it carries.
	AttachLogin(req *Request, l Login, signature []byte) error
}

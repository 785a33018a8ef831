package mpp

import (
	"fmt"
	"slices"

	"bursar/evm"
	"bursar/money"
	"bursar/pay"
)

// Credential types that we give. "permit2" names no spender in the challenge, so nothing could be signed; "transaction"
// would hand a signed transaction to a stranger.
const (
	credentialAuthorization = "authorization"
	credentialHash          = "hash"
)

// terms is the decoded request of a charge. The method usdc nests its details under the name of the profile.
type terms struct {
	Amount    string `json:"amount"`
	Currency  string `json:"currency"`
	Recipient string `json:"recipient"`
	Details   struct {
		details
		Type string  `json:"type"`
		EVM  details `json:"evm"`
	} `json:"methodDetails"`
}

type details struct {
	ChainID         uint64   `json:"chainId"`
	CredentialTypes []string `json:"credentialTypes"`
	Decimals        *int     `json:"decimals"`
	Splits          []split  `json:"splits"`
}

type split struct {
	Recipient string `json:"recipient"`
	Amount    string `json:"amount"`
}

// readTerms fills the offer from a request's JSON and returns the credential type that it will be answered with.
func readTerms(o *pay.Offer, method string, text []byte) string {
	var t terms
	if err := pay.ReadJSON(text, &t); err != nil {
		o.Refuse(err)
		return ""
	}
	d := t.Details.details
	if method == methodUSDC {
		if d = t.Details.EVM; t.Details.Type != methodEVM {
			o.Refuse(pay.Refusal(pay.Unsupported, "method usdc of type %q is not supported", pay.Text(t.Details.Type)))
			return ""
		}
	}
	var err error
	o.Amount, err = pay.ParseAmount(t.Amount)
	o.Refuse(err)
	known := false
	if o.Network, known = evm.NetworkByID(d.ChainID); !known {
		o.Refuse(pay.Refusal(pay.BadNetwork, "network eip155:%d is not supported", d.ChainID))
	}
	o.Asset, err = pay.ParseAddress("currency", t.Currency)
	o.Refuse(err)
	o.PayTo, err = pay.ParseAddress("recipient", t.Recipient)
	o.Refuse(err)
	if d.Decimals != nil && *d.Decimals != money.Decimals {
		o.Refuse(pay.Refusal(pay.BadAsset, "a token of %d decimals is not USDC", *d.Decimals))
	}
	o.Refuse(checkSplits(o.Amount, d.Splits))
	credential, err := chooseCredential(method, d.CredentialTypes)
	o.Refuse(err)
	return credential
}

// checkSplits refuses every split: the proofs that we give pay one receiver. Those that break the draft are told apart.
func checkSplits(amount money.USDC, splits []split) error {
	var sum money.USDC
	for _, s := range splits {
		a, err := pay.ParseAmount(s.Amount)
		if err != nil {
			return fmt.Errorf("split: %w", err)
		}
		if sum = min(sum, money.Max).Add(a); sum >= amount {
			return pay.Refusal(pay.BadAmount, "the splits reach the amount itself")
		}
	}
	if len(splits) > 0 {
		return pay.Refusal(pay.Unsupported, "a payment split between receivers is not supported")
	}
	return nil
}

// chooseCredential prefers what the seller settles over what we would have to send. Without a list the draft of method evm
// means "transaction", while mppx means "authorization": refused, rather than guessed.
func chooseCredential(method string, offered []string) (string, error) {
	switch {
	case slices.Contains(offered, credentialAuthorization), method == methodUSDC && offered == nil:
		return credentialAuthorization, nil
	case slices.Contains(offered, credentialHash) && method == methodEVM:
		return credentialHash, nil
	case len(offered) == 0:
		return "", pay.Refusal(pay.Unsupported, "the challenge does not list the credential types that it takes")
	}
	return "", pay.Refusal(pay.Unsupported, "credential types %q are not supported", pay.Text(fmt.Sprint(offered)))
}

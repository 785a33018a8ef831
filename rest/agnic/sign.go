package agnic

import (
	"net/http"
	"strings"

	"bursar/core"
	"bursar/rest"
)

// SignPayment is POST /api/sign-payment: a proof of payment that the caller sends itself.
func (a *api) SignPayment(w http.ResponseWriter, r *http.Request, _ SignPaymentParams) {
	in, err := signInput(w, r)
	if err != nil {
		a.door.Fail(w, r, err)
		return
	}
	s, err := a.app.Payments.Sign(r.Context(), rest.Principal(r.Context()), in)
	if err != nil {
		a.door.Fail(w, r, published(err))
		return
	}
	rest.Note(r.Context(), s.Payment.ID.String())
	w.Header().Set("Cache-Control", "no-store") // the header is money
	rest.WriteJSON(w, http.StatusOK, SignedPayment{
		Success: true, PaymentHeader: s.Value, HeaderName: s.Header, PaymentProof: s.Proof, AmountPaid: s.Payment.Quoted.Dollars(),
		Network: s.Payment.Network, Scheme: s.Payment.Scheme, TransactionId: transactionID(s.Payment), Warning: strings.Join(s.Warnings, "; "),
	})
}

func signInput(w http.ResponseWriter, r *http.Request) (in core.SignInput, err error) {
	if len(r.Header.Values(rest.SessionHeader)) > 0 {
		return in, core.E(core.InvalidRequest, "A session cannot sign: the wallet pays by a proof, so leave %s out", rest.SessionHeader)
	}
	q, err := rest.Agnic.Query(r, "approvalWait")
	if err != nil {
		return in, err
	}
	body, err := rest.ReadBody(w, r)
	if err != nil {
		return in, err
	}
	var raw SignRequest
	if err := rest.Agnic.Decode(body, &raw); err != nil {
		return in, err
	}
	in.DefaultWallet, in.Challenge = true, raw.PaymentRequirements
	in.URL, in.Method = raw.RequestData.Url, strings.ToUpper(raw.RequestData.Method)
	if in.ApprovalID, err = rest.ApprovalID(r.Header); err != nil {
		return in, err
	}
	if in.ApprovalWait, err = rest.ApprovalWait("approvalWait", q.Get("approvalWait")); err != nil {
		return in, err
	}
	in.IdempotencyKey, err = rest.IdempotencyKey(r.Header)
	return in, err
}

package core

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/google/uuid"

	"bursar/core/ledger"
	"bursar/ent/trace"
	"bursar/ent/transaction"
	"bursar/evm"
	"bursar/pay"
)

// Signing in: a wallet that has paid a host says who it is, and is served without paying again, where its policy allows that.
// It says so to no host that it has not paid itself, which would learn it for nothing. Sessions never do: the platform pays for
// all of them, so one tenant would be given what another has paid for.

// TracedLogin is a login that a service has offered to a wallet that may sign in. Its texts are the service's own.
type TracedLogin struct {
	TraceID *uuid.UUID `json:"trace_id,omitempty"` // of the login itself, which is kept before it leaves; nil: it was not signed
	Domain  string     `json:"domain,omitempty"`
	Nonce   string     `json:"nonce,omitempty"`
	Message string     `json:"message,omitempty"` // what is signed
	Refused string     `json:"refused,omitempty"` // why it is not
}

// notes are a dry run's, which signs nothing.
func (l *TracedLogin) notes() []string {
	switch {
	case l == nil:
		return nil
	case l.Refused != "":
		return []string{"the wallet would not sign in: " + l.Refused}
	}
	return []string{"the wallet would sign in first, and pay only if it is asked again"}
}

// signIn sends the request once more with the login that a challenge offers, and returns what it is answered by. It returns
// nil when the challenge stands: no login is offered, it must not be signed, or one has left for this call already.
func (f *Payments) signIn(ctx context.Context, c *call, challenge *exchange) (*exchange, error) {
	if c.why.Login != nil || !c.agent.Edges.Policy.SignIn {
		return nil, nil
	}
	protocol, l, err := f.login(ctx, c, challenge.response())
	if err != nil || l == nil || c.in.DryRun {
		return nil, err
	}
	if err := f.keepLogin(ctx, c); err != nil || c.why.Login.Refused != "" {
		return nil, err
	}
	f.step(StepLogin)
	challenge.end() // its connection serves for the login
	x, err := f.sendLogin(ctx, c, protocol, l)
	f.step(StepGreeted)
	f.loginEnded(ctx, c, x, err)
	return x, err
}

// signedIn goes on by the answer to a login: it is handed on, or another challenge.
func (f *Payments) signedIn(ctx context.Context, c *call, x *exchange, err error) (*FetchResult, error) {
	switch {
	case err != nil:
		return nil, err
	case x.status == http.StatusPaymentRequired:
		return f.asked(ctx, c, x)
	}
	r, err := f.unasked(ctx, c, x)
	if err == nil {
		r.Login = c.why.Login.TraceID
	}
	return r, err
}

// signsIn reports whether who pays the call is a wallet whose policy lets it sign in.
func (c *call) signsIn() bool { return c.prepaid == nil && c.agent.Edges.Policy.SignIn }

// login reads the one that a challenge offers, or nil when there is none to sign. What is offered is noted in any case.
func (f *Payments) login(ctx context.Context, c *call, challenge *pay.Response) (pay.LoginProtocol, *pay.Login, error) {
	for _, p := range f.protocols {
		protocol, ok := p.(pay.LoginProtocol)
		if !ok {
			continue
		}
		l, err := protocol.Login(c.request, challenge, f.wallet(c), f.clock())
		switch {
		case err != nil:
			c.why.Login = &TracedLogin{Refused: err.Error()}
			return nil, nil, nil
		case l == nil:
			continue
		}
		c.why.Login = &TracedLogin{Domain: l.Domain, Nonce: l.Nonce}
		if c.why.Login.Refused, err = f.mayNotSignIn(ctx, c); err != nil || c.why.Login.Refused != "" {
			return nil, nil, err
		}
		c.why.Login.Message = l.Message
		return protocol, l, nil
	}
	return nil, nil, nil
}

// mayNotSignIn is why a login must not be signed whatever it says, or empty.
func (f *Payments) mayNotSignIn(ctx context.Context, c *call) (string, error) {
	if c.prepaid != nil {
		return "a session does not sign in: the service could not tell it from those of others", nil
	}
	if c.target.url.Scheme != "https" && !f.chain.Network().Testnet {
		return "a wallet signs in over https only: anybody on the way could use the login", nil
	}
	paid, err := f.hasPaid(ctx, c)
	if err == nil && !paid {
		return "the wallet has not paid this host before", nil
	}
	return "", err
}

// hasPaid reports whether the wallet itself has paid the host of the call: the chain has shown it, or the host has served.
func (f *Payments) hasPaid(ctx context.Context, c *call) (bool, error) {
	origin := c.target.url.Scheme + "://" + c.target.host
	return f.db.readEnt.Transaction.Query().Where(
		transaction.AgentID(c.agent.ID), transaction.Service(c.target.service), transaction.SessionIDIsNil(), transaction.ServiceIDIsNil(),
		transaction.KindEQ(transaction.KindPayment), transaction.Network(f.chain.Network().Name),
		transaction.Or(transaction.Endpoint(origin), transaction.EndpointHasPrefix(origin+"/")),
		transaction.Or(
			transaction.StatusEQ(transaction.StatusSuccess),
			transaction.And(transaction.StatusEQ(transaction.StatusPending), transaction.UpstreamStatusGT(0)),
		),
	).Exist(ctx)
}

// keepLogin writes down what will be signed, since no chain will show it. A policy or a credential that has changed meanwhile lets
// nothing be signed.
func (f *Payments) keepLogin(ctx context.Context, c *call) error {
	id := uuid.Must(uuid.NewV7())
	c.why.Login.TraceID = &id
	_, err := f.commit(ctx, unit{
		guard: ledger.Guard{Agent: c.agent.ID, Rules: c.from.rules, Credential: c.p.CredentialID},
		rows: func(now time.Time, _ ledger.Result) []ledger.Row {
			return []ledger.Row{c.traceRow(id, now, trace.OutcomeLogin, nil, c.why)}
		},
	})
	if errors.Is(err, ledger.ErrChanged) {
		c.why.Login = &TracedLogin{Domain: c.why.Login.Domain, Nonce: c.why.Login.Nonce, Refused: "the policy has changed meanwhile"}
		return nil
	}
	return err
}

// sendLogin signs a login and sends the call's request with it, once.
func (f *Payments) sendLogin(ctx context.Context, c *call, protocol pay.LoginProtocol, l *pay.Login) (*exchange, error) {
	sig, err := f.keys.signAs(c.agent, c.payer, evm.PersonalDigest(l.Message))
	if err != nil {
		return nil, err
	}
	r := &pay.Request{Method: c.request.Method, URL: c.request.URL, Header: c.request.Header.Clone(), Body: c.request.Body}
	if err := protocol.AttachLogin(r, *l, sig); err != nil {
		return nil, err
	}
	return f.sendOnce(ctx, r, clampTimeout(c.in.Timeout))
}

// loginEnded notes what came of a login.
func (f *Payments) loginEnded(ctx context.Context, c *call, x *exchange, sendErr error) {
	var came string
	switch {
	case sendErr != nil:
		came = AsError(sendErr).Message
	case x.status == http.StatusPaymentRequired:
		came = "The service asked for money all the same"
	default:
		came = fmt.Sprintf("The service answered %d, and nothing was paid", x.status)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), afterPayment)
	defer cancel()
	if err := f.note(ctx, ledger.Row{Into: loginRow, Values: []any{c.why.Login.TraceID.String(), pay.Text(came)}}); err != nil {
		f.log.WarnContext(ctx, "could not keep what came of a login", "agent_id", c.agent.ID, "error", err)
	}
}

package resolvers

import (
	"context"
	"encoding/base64"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"bursar/core"
	"bursar/graph"
)

func (r mutation) Fetch(ctx context.Context, in graph.FetchInput) (*graph.FetchResult, error) {
	call, err := fetchInput(in)
	if err != nil {
		return nil, err
	}
	res, err := r.Payments.Fetch(ctx, caller(ctx), call)
	if err != nil {
		return nil, err
	}
	return fetchResult(res), nil
}

func (r mutation) SignPayment(ctx context.Context, in graph.SignPaymentInput) (*core.Signed, error) {
	sign := core.SignInput{
		DefaultWallet: in.DefaultWallet, Method: strings.ToUpper(in.Method), URL: in.URL, Challenge: []byte(in.Challenge), MaxCost: in.MaxCost,
		IdempotencyKey: in.IdempotencyKey, ApprovalID: in.ApprovalID,
	}
	var err error
	if sign.ApprovalWait, err = wait(in.ApprovalWaitSeconds); err != nil {
		return nil, err
	}
	if in.Agent != nil {
		sign.Agent = *in.Agent
	}
	return r.Payments.Sign(ctx, caller(ctx), sign)
}

func fetchInput(in graph.FetchInput) (core.FetchInput, error) {
	out := core.FetchInput{
		DefaultWallet: in.DefaultWallet, Method: strings.ToUpper(in.Method), URL: in.URL, Header: http.Header{}, MaxCost: in.MaxCost,
		IdempotencyKey: in.IdempotencyKey, DryRun: in.DryRun, ApprovalID: in.ApprovalID,
	}
	var err error
	if out.ApprovalWait, err = wait(in.ApprovalWaitSeconds); err != nil {
		return out, err
	}
	if in.Agent != nil {
		out.Agent = *in.Agent
	}
	if in.SessionID != nil {
		out.SessionID = in.SessionID.String()
	}
	if in.TimeoutSeconds != nil {
		if *in.TimeoutSeconds < 1 {
			return out, core.E(core.InvalidRequest, "timeoutSeconds must be positive")
		}
		out.Timeout = time.Duration(*in.TimeoutSeconds) * time.Second
	}
	if in.Service != nil {
		out.Service = *in.Service
	}
	for _, h := range in.Headers {
		out.Header.Add(h.Name, h.Value)
	}
	if in.Body == nil {
		return out, nil
	}
	out.Body = []byte(*in.Body)
	if in.BodyBase64 {
		b, err := base64.StdEncoding.DecodeString(*in.Body)
		if err != nil {
			return out, core.E(core.InvalidRequest, "body is not base64")
		}
		out.Body = b
	}
	return out, nil
}

// wait reads how long a call waits for a person; core brings it into its bound.
func wait(seconds int32) (time.Duration, error) {
	if seconds < 0 {
		return 0, core.E(core.InvalidRequest, "approvalWaitSeconds must not be negative")
	}
	return time.Duration(seconds) * time.Second, nil
}

func fetchResult(res *core.FetchResult) *graph.FetchResult {
	out := &graph.FetchResult{
		Status: int32(res.Status), Paid: res.Paid, Cost: res.Cost, PaidBy: res.Method, Transaction: res.Payment, SessionRemaining: res.SessionRemaining,
		LoginTraceID: res.Login, Verdict: res.Verdict, Headers: []*graph.Header{},
	}
	for _, name := range slices.Sorted(maps.Keys(res.Header)) {
		for _, value := range res.Header[name] {
			out.Headers = append(out.Headers, &graph.Header{Name: name, Value: value})
		}
	}
	if out.BodyBase64 = !utf8.Valid(res.Body); out.BodyBase64 {
		out.Body = base64.StdEncoding.EncodeToString(res.Body)
	} else {
		out.Body = string(res.Body)
	}
	if res.Unpayable != "" {
		out.Unpayable = &res.Unpayable
	}
	return out
}

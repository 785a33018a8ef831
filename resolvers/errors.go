package resolvers

import (
	"context"
	"errors"
	"strings"

	"github.com/99designs/gqlgen/graphql"
	"github.com/vektah/gqlparser/v2/gqlerror"

	"bursar/core"
)

// coded gives every error of a resolver its code, so that present can tell it from gqlgen's own.
func coded(ctx context.Context, next graphql.Resolver) (any, error) {
	v, err := next(ctx)
	if err != nil {
		return v, core.AsError(err)
	}
	return v, nil
}

// maxErrors is how many mistakes of one document are told: a small one can make thousands.
const maxErrors = 8

// brief cuts what is told of a document that was not executed.
func brief(ctx context.Context, next graphql.ResponseHandler) *graphql.Response {
	response := next(ctx)
	if response != nil && response.Data == nil && len(response.Errors) > maxErrors {
		response.Errors = response.Errors[:maxErrors]
	}
	return response
}

// recovered turns a panic into an error without a word of it.
func (s *Server) recovered(ctx context.Context, panicked any) error {
	s.log.ErrorContext(ctx, "panic in a resolver", "panic", panicked)
	return core.E(core.ServerError, "Internal server error")
}

// present spells an error: the code upper-cased, which limit refused, and which payment it concerns. The cause of
// a server error is logged and stays here.
func (s *Server) present(ctx context.Context, err error) *gqlerror.Error {
	var own *gqlerror.Error
	errors.As(err, &own)
	if own != nil && own.Extensions["code"] != nil {
		return own // the document's fault: syntax, validation, limits
	}
	e := s.judge(err, own)
	out := &gqlerror.Error{Message: e.Message, Path: graphql.GetPath(ctx), Extensions: map[string]any{"code": strings.ToUpper(string(e.Code))}}
	if own != nil {
		out.Path, out.Locations = own.Path, own.Locations
	}
	if e.Code == core.ServerError {
		if ctx.Err() == nil { // else nobody reads the answer, and the error tells only that
			s.log.ErrorContext(ctx, "request failed", "path", out.Path.String(), "error", e)
		}
		out.Message = "Internal server error"
	}
	if e.Payment != "" {
		out.Extensions["transactionId"] = e.Payment
	}
	if e.Trace != "" {
		out.Extensions["traceId"] = e.Trace
	}
	if e.Approval != nil {
		out.Extensions["approvalId"] = e.Approval.ID.String()
	}
	if e.RetryAfter > 0 {
		out.Extensions["retryAfterSeconds"] = e.RetrySeconds()
	}
	if o := e.Offer; o != nil {
		out.Extensions["offer"] = map[string]any{
			"protocol": o.Protocol, "scheme": o.Scheme, "network": o.Network, "asset": o.Asset, "payTo": o.PayTo, "amount": o.Amount.String(),
		}
	}
	if l := e.Limit; l != nil {
		out.Extensions["limit"] = map[string]any{
			"rule": l.Rule, "current": l.Current.String(), "requested": l.Requested.String(), "max": l.Max.String(),
		}
	}
	return out
}

// judge finds the code of an error. One of core has it. Of gqlgen's own without a code, one with a cause is an
// input that a scalar could not read; one without is a promise of the schema that was broken, which is ours.
func (s *Server) judge(err error, own *gqlerror.Error) *core.Error {
	var e *core.Error
	switch {
	case errors.As(err, &e):
		return e
	case own == nil:
		return core.E(core.InvalidRequest, "%s", err)
	case own.Err != nil:
		return core.E(core.InvalidRequest, "%s", own.Message)
	}
	return &core.Error{Code: core.ServerError, Err: err}
}

// fault is an error of the door itself, with a code that core has not.
func fault(code, format string, args ...any) *gqlerror.Error {
	e := gqlerror.Errorf(format, args...)
	e.Extensions = map[string]any{"code": code}
	return e
}

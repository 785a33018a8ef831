package rest

import (
	"net/http"
	"strconv"
	"time"

	"github.com/google/uuid"

	"bursar/core"
	"bursar/ent"
)

// ApprovalHeader names a person's yes to the call that it comes with.
const ApprovalHeader = "X-Approval-Id"

const longestWait = 24 * 60 * 60 // seconds that may be asked for; core waits for less

// ApprovalID reads the header; nil without one.
func ApprovalID(h http.Header) (*uuid.UUID, error) { return ParseApprovalID(h.Get(ApprovalHeader)) }

// ParseApprovalID reads an approval's id; nil for an empty one.
func ParseApprovalID(text string) (*uuid.UUID, error) {
	if text == "" {
		return nil, nil
	}
	id, err := uuid.Parse(text)
	if err != nil {
		return nil, core.E(core.InvalidRequest, "An approval's id is a UUID")
	}
	return &id, nil
}

// ApprovalWait reads how many seconds a call waits for a person; zero for an empty text.
func ApprovalWait(field, text string) (time.Duration, error) {
	if text == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(text, 10, 32)
	if err != nil || n > longestWait {
		return 0, core.E(core.InvalidRequest, "%s must be a whole number of seconds", field)
	}
	return time.Duration(n) * time.Second, nil
}

// approvalBody is a request for a person's yes. Amounts are decimal USDC as text, times unix seconds.
func approvalBody(a *ent.Approval) map[string]any {
	return map[string]any{
		"id": a.ID, "agent_id": a.AgentID, "host": a.Host, "payee": a.Payee, "network": a.Network, "asset": a.Asset, "ceiling": a.Ceiling.Decimal(),
		"rule": a.Rule, "reason": a.Reason, "status": a.Status.String(), "created_at": a.CreatedAt.Unix(), "expires_at": a.ExpiresUnix,
	}
}

package core

import (
	"bytes"
	"context"
	"encoding/json"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"bursar/core/ledger"
	"bursar/core/policy"
	"bursar/ent"
	"bursar/ent/service"
	"bursar/pay"
)

// How a call finds its entry of the catalogue, and what the entry makes of its request.

// catalogue is the operator's own entries by host, as this process has read them last. Every call of a fetch door asks it.
// What another process changes counts here after catalogueLife; what this one changes, at once.
type catalogue struct {
	mu     sync.Mutex
	until  time.Time
	byHost map[string][]*ent.Service
}

// Bounds of the catalogue's copy.
const (
	catalogueLife = 2 * time.Second
	maxOwnEntries = 1000 // of the operator's
)

func (c *catalogue) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.byHost = nil
}

// at lists the operator's entries on a host.
func (s *store) entriesAt(ctx context.Context, host string) ([]*ent.Service, error) {
	c, now := &s.catalogue, s.clock()
	c.mu.Lock()
	defer c.mu.Unlock() // callers that come while one reads wait for it
	if c.byHost != nil && now.Before(c.until) {
		return c.byHost[host], nil
	}
	all, err := s.db.readEnt.Service.Query().Where(service.OrgIDIsNil(), service.Active(true)).Order(service.BySlug()).Limit(maxOwnEntries).All(ctx)
	if err != nil {
		return nil, err
	}
	c.byHost, c.until = map[string][]*ent.Service{}, now.Add(catalogueLife)
	for _, e := range all {
		c.byHost[e.Host] = append(c.byHost[e.Host], e)
	}
	return c.byHost[host], nil
}

// entry is a service of the catalogue that a call is for.
type entry struct {
	*ent.Service
	account uuid.UUID // where sessions' money for it goes
	payee   string    // where wallets' money for it goes: an address

	path  string        // below its base, escaped, with its first slash; empty: the base itself, or it was not called by name
	rule  policy.Entry  // as policies may name it
	takes time.Duration // since the hold: the call has been booked by then, or its process is dead
}

// entryBySlug finds the service that a call names.
func (s *store) entryBySlug(ctx context.Context, slug string) (*entry, error) {
	found, err := s.db.readEnt.Service.Query().Where(service.Slug(slug), service.Active(true)).Only(ctx)
	if err != nil {
		return nil, missing(err, "Service")
	}
	return s.entry(ctx, found)
}

// entryFor finds the operator's entry that a URL belongs to: the longest base that it lies below. Nil: none. What
// organisations sell is called by its name alone, or anybody could say to sell another's host.
func (s *store) entryFor(ctx context.Context, t target) (*entry, error) {
	there, err := s.entriesAt(ctx, t.host)
	if err != nil || len(there) == 0 || climbs(t.url.EscapedPath()) {
		return nil, err
	}
	var best *ent.Service
	for _, e := range there {
		base, err := url.Parse(e.BaseURL)
		if err != nil {
			return nil, err
		}
		if base.Scheme == t.url.Scheme && below(t.url.EscapedPath(), base.EscapedPath()) && (best == nil || len(e.BaseURL) > len(best.BaseURL)) {
			best = e
		}
	}
	if best == nil {
		return nil, nil
	}
	return s.entry(ctx, best)
}

func (s *store) entry(ctx context.Context, found *ent.Service) (*entry, error) {
	if found.OrgID == nil {
		return &entry{Service: found, account: s.platform.Treasury, payee: s.keys.platformAddress().Hex()}, nil
	}
	account, err := ledger.Find(ctx, s.db.readEnt, ledger.Seller, s.chainID(), found.ID)
	if err != nil {
		return nil, err
	}
	return &entry{Service: found, account: account, payee: *found.WalletAddress}, nil
}

// below reports whether a path is a base or lies under it.
func below(path, base string) bool {
	base = strings.TrimRight(base, "/")
	return path == base || strings.HasPrefix(path, base+"/")
}

// climbs reports whether a path, escaped, has steps that lead upwards however they are spelled, so that it may not lie
// where it seems to.
func climbs(path string) bool {
	if strings.Contains(path, "\\") {
		return true
	}
	plain, err := url.PathUnescape(path)
	if err != nil {
		return true
	}
	for again, err := url.PathUnescape(plain); err == nil && again != plain; again, err = url.PathUnescape(plain) {
		plain = again
	}
	for step := range strings.FieldsFuncSeq(plain, func(r rune) bool { return r == '/' || r == '\\' }) {
		step, _, _ = strings.Cut(step, ";") // some servers cut parameters off before they climb
		if step == ".." || step == "." {
			return true
		}
	}
	return false
}

// under is the URL of what a call names below the service's base: an escaped path without its first slash, and a query.
func (e *entry) under(rest string) (string, error) {
	path, query, asked := strings.Cut(rest, "?")
	if climbs(path) || strings.Contains(path, "#") {
		return "", E(InvalidRequest, "The path must lie below the service's base")
	}
	full := e.BaseURL
	if path != "" {
		alone, err := url.Parse("http://service/" + path)
		if err != nil {
			return "", E(InvalidRequest, "The path cannot be sent")
		}
		e.path, full = alone.EscapedPath(), strings.TrimRight(e.BaseURL, "/")+"/"+path
	}
	if asked {
		full += "?" + query
	}
	return full, nil
}

// known is what history calls the service.
func (e *entry) known() string {
	if e.OrgID != nil {
		return policy.StrangerName(e.Slug)
	}
	return e.Slug
}

// ownCall are request headers that speak to this server, or would make an answer unreadable that is to be counted.
var ownCall = []string{
	"Authorization", "X-Api-Key", "X-Agent-Wallet", "X-Session-Id", "X-Agnic-Token", "X-Approval-Id", "Idempotency-Key", "Cookie",
	"Accept-Encoding", "Range",
}

// dress makes the request the service's: nothing of the caller's credentials, and the service's own in its place. It
// returns the secret that went in, which must not come back.
func (s *store) dress(e *entry, r *pay.Request) (*pay.Request, string, error) {
	out := &pay.Request{Method: r.Method, URL: r.URL, Header: r.Header.Clone(), Body: r.Body}
	for _, name := range ownCall {
		out.Header.Del(name)
	}
	out.Header.Set("Accept-Encoding", notPacked) // without it a service may choose any
	if e.CredentialIn == service.CredentialInNone {
		return out, "", nil
	}
	secret, err := s.keys.openCredential(e.ID, e.SealedCredential)
	if err != nil {
		return nil, "", err
	}
	if e.CredentialIn == service.CredentialInHeader {
		out.Header.Set(e.CredentialName, e.CredentialPrefix+secret)
		return out, secret, nil
	}
	u, err := url.Parse(out.URL)
	if err != nil {
		return nil, "", err
	}
	u.RawQuery = withParameter(u.RawQuery, e.CredentialName, secret)
	out.URL = u.String()
	return out, secret, nil
}

// withParameter puts a parameter behind a query, in place of any of its name. The others stay as they are written.
func withParameter(query, name, value string) string {
	kept := slices.DeleteFunc(strings.FieldsFunc(query, func(r rune) bool { return r == '&' || r == ';' }), func(pair string) bool {
		key, _, _ := strings.Cut(pair, "=")
		plain, err := url.QueryUnescape(key)
		return err != nil || plain == name
	})
	return strings.Join(append(kept, url.QueryEscape(name)+"="+url.QueryEscape(value)), "&")
}

const removed = "[removed]"

// spellings are a secret as an answer may repeat it: as it is, in a URL, and in JSON of either kind.
func spellings(secret string) []string {
	var plain bytes.Buffer
	e := json.NewEncoder(&plain)
	e.SetEscapeHTML(false)
	_ = e.Encode(secret) // a string always encodes
	escaped, _ := json.Marshal(secret)
	all := []string{
		secret, url.QueryEscape(secret), url.PathEscape(secret), strings.Trim(plain.String(), "\"\n"), strings.Trim(string(escaped), `"`),
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// scrub keeps a credential out of an answer that repeats it. It refuses one that is packed so that it cannot be read: whoever
// gets that could unpack the credential.
func scrub(resp *pay.Response, secret string) error {
	if secret == "" {
		return nil
	}
	if len(resp.Body) > 0 && len(codings(resp.Header)) > 0 {
		return E(ServiceFailed, "The service's answer is packed in a way that cannot be read")
	}
	for _, form := range spellings(secret) {
		resp.Body = bytes.ReplaceAll(resp.Body, []byte(form), []byte(removed))
		for name, values := range resp.Header {
			for i, v := range values {
				resp.Header[name][i] = strings.ReplaceAll(v, form, removed)
			}
		}
	}
	return nil
}

package main

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"bursar/money"
)

// The shop's services that bill by use: one is the operator's, one a business's, and every call has a path of its own.

const (
	meterPath  = "/metered/"
	meterPrice = 2000 // for each of the units that an answer counts, up to meterMost
	meterMost  = 5
)

// metered answers a metered call as services come: mostly well; at times with nothing to charge, with more than the maximum, or
// with an error.
func metered(shop http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.URL.Path, meterPath) {
			shop.ServeHTTP(w, r)
			return
		}
		units := rand.IntN(meterMost + 3)
		if units == meterMost+2 {
			w.WriteHeader(http.StatusBadGateway)
		}
		_, _ = fmt.Fprintf(w, `{"units":%d}`, units)
	})
}

// servicesFile lists the operator's service on the shop.
func (k *killRun) servicesFile(shop string) string {
	k.t.Helper()
	text, err := json.Marshal([]map[string]any{{
		"slug": "meter", "name": "Meter", "base_url": shop + strings.TrimSuffix(meterPath, "/"),
		"price": map[string]any{"by": "response_field", "field": "units", "unit": meterPrice, "maximum": meterPrice * meterMost},
	}})
	k.no(err)
	file := filepath.Join(k.t.TempDir(), "services.json")
	k.no(os.WriteFile(file, text, 0o600))
	return file
}

// openBusiness registers one that is paid to the earner.
func (k *killRun) openBusiness(bearer string) {
	k.t.Helper()
	k.p.must("POST", "/gateway/register", map[string]any{
		"name": "Business", "wallet_address": k.earner.Hex(), "price_per_request": json.Number("0.003"), "base_url": k.shop + strings.TrimSuffix(meterPath, "/"),
		"webhook_url": "https://example.com/",
	}, "Authorization", bearer)
}

// meter makes one metered call; without a session it is paid from the wallet.
func (k *killRun) meter(from openSession) {
	path := fmt.Sprint(k.calls.Add(1))
	in := map[string]any{
		"agent": from.agent, "service": []string{"meter", "business"}[rand.IntN(2)], "url": path, "timeoutSeconds": 1, // its hold ends soon after
	}
	if from.id != "" {
		in["sessionId"] = from.id
	}
	status, out, err := k.p.call("POST", "/graphql", map[string]any{
		"query": `mutation($in: FetchInput!) { fetch(input: $in) { status } }`, "variables": map[string]any{"in": in},
	})
	if err == nil && status == http.StatusOK && out["errors"] == nil {
		k.told("payment " + meterPath + path)
	}
}

// meters holds what metered calls were charged to what the business has on chain, and returns what is at the platform's address of
// it: the operator's, and what the business is still owed.
func (k *killRun) meters(f facts, history, operations []record) money.USDC {
	k.t.Helper()
	platform := platformAddress(history)
	var treasury, owed, earned money.USDC
	for _, r := range history {
		switch {
		case r.protocol != "metered":
		case r.to == platform.Hex():
			treasury = treasury.Add(r.amount)
		case r.session != "":
			owed = owed.Add(r.amount)
		default:
			earned = earned.Add(r.amount)
		}
		if r.protocol == "metered" && r.amount > meterPrice*meterMost {
			k.t.Errorf("payment %s of %s is above the maximum", r.id, r.amount)
		}
	}
	for _, o := range operations {
		if o.kind == "payout" && o.status == "final" {
			owed, earned = owed.Sub(o.amount), earned.Add(o.amount)
		}
	}
	if has := k.held(k.earner, f.block); has != earned || owed < 0 {
		k.t.Errorf("the business holds %s, and was sent %s; it is owed %s", has, earned, owed)
	}
	return treasury.Add(owed)
}

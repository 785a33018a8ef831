package rest

import "bursar/core"

// Verdict is what a dry run tells, in both dialects. Amounts are decimal USDC as text.
func Verdict(v *core.Verdict) map[string]any {
	offers := make([]map[string]any, len(v.Offers))
	for i, o := range v.Offers {
		offers[i] = offer(o)
		if o.Refused != "" {
			offers[i]["refused"] = o.Refused
		}
	}
	rules := make([]map[string]any, len(v.Rules))
	for i, r := range v.Rules {
		rules[i] = map[string]any{
			"rule": r.Rule, "current": r.Current.Decimal(), "requested": r.Requested.Decimal(), "max": r.Max.Decimal(), "ok": r.OK,
		}
	}
	notes := v.Notes
	if notes == nil {
		notes = []string{}
	}
	out := map[string]any{"allowed": v.Allowed, "price": v.Price.Decimal(), "offers": offers, "rules": rules, "notes": notes}
	if v.Chosen != nil {
		out["chosen"] = *v.Chosen
	}
	if !v.Allowed {
		out["code"], out["reason"] = v.Code, v.Reason
	}
	return out
}

func offer(o core.TracedOffer) map[string]any {
	return map[string]any{
		"protocol": o.Protocol, "scheme": o.Scheme, "network": o.Network, "asset": o.Asset, "pay_to": o.PayTo, "amount": o.Amount.Decimal(),
	}
}

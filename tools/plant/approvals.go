package main

// approvalBugs let a call pass that the policy holds or refuses.
func approvalBugs() []bug {
	const rows, asking = "core/rows.go", "core/asking.go"
	return []bug{
		{
			name:  "yes-used-twice",
			costs: "two calls at once pay by one person's yes",
			edits: []edit{
				{rows, "WHERE a.id = v.c1 AND a.status = 'approved' AND ", "WHERE a.id = v.c1 AND "},
				{rows, "WHERE id = ?1 AND status = 'approved' AND ", "WHERE id = ?1 AND "},
			},
			proof: proof{folder: "core", test: "TestApprovalIsUsedOnce"},
		},
		{
			name:  "yes-for-another-payee",
			costs: "a person's yes to one payee pays another",
			edits: []edit{{asking, `approval.Payee(o.PayTo.Hex()), `, ``}},
			proof: proof{folder: "core", test: "TestApprovalBinds"},
		},
		{
			name:  "raised-after-it-was-read",
			costs: "a dearer call joins a request that a person has read with a lower price",
			edits: []edit{{asking, `pending.Ceiling >= d.offer.Amount`, `pending.Ceiling >= 0`}},
			proof: proof{folder: "core", test: "TestApprovalBinds"},
		},
		{
			name:  "payees-judged-apart",
			costs: "a host that must not change its payee gets money for two, because both calls began before either was paid",
			edits: []edit{{"core/memory.go", `payeeStatement("admit a payee", false)`, `payeeStatement("admit a payee", true)`}},
			proof: proof{folder: "core", test: "TestCautionRaces"},
		},
		{
			name:  "jump-from-a-price-that-was",
			costs: "a call is compared with a price that has fallen since it began, and pays far more than the usual one",
			edits: []edit{
				{rows, `WHERE c7 <= COALESCE((SELECT COALESCE(p.usual, p.amount) * v.c21 / 100 FROM prices p WHERE p.id = v.c20), c7)`, ``},
				{rows, `WHERE ?7 <= COALESCE((SELECT COALESCE(usual, amount) * ?21 / 100 FROM prices WHERE id = ?20), ?7)`, `WHERE ?20 IS NULL OR ?21 > 0`},
			},
			proof: proof{folder: "core", test: "TestPriceJumpRaces"},
		},
		{
			name:  "usual-by-promise",
			costs: "a seller raises its price with each call, by proofs that it never settles, and takes the last one",
			edits: []edit{{"core/memory.go", `usual = COALESCE(prices.usual, prices.amount), amount = excluded.amount`, `usual = excluded.usual, amount = excluded.amount`}},
			proof: proof{folder: "core", test: "TestPriceThatIsNeverCharged"},
		},
		{
			name:  "risen-by-a-maximum",
			costs: "a seller charges next to nothing under maxima that rise with each call, and then a whole one",
			edits: []edit{
				{"core/memory.go", `LEAST(n.c2, GREATEST(COALESCE(p.usual, p.amount), n.c3))`, `n.c2`},
				{"core/memory.go", `n.c3 > COALESCE(p.usual, p.amount)`, `n.c2 > COALESCE(p.usual, p.amount)`},
				{"core/memory.go", `MIN(?2, MAX(COALESCE(usual, amount), ?3))`, `?2`},
				{"core/memory.go", `?3 > COALESCE(usual, amount)`, `?2 > COALESCE(usual, amount) OR ?3 > ?2`},
			},
			proof: proof{folder: "core", test: "TestPriceOfAMaximum"},
		},
		{
			name:  "taught-by-the-caller",
			costs: "an agent says that a host wants a stranger paid, and the stranger is known from then on",
			edits: []edit{{"core/signing.go", `c.run, c.shown = r, true`, `c.run = r`}},
			proof: proof{folder: "core", test: "TestASignatureTeachesNothing"},
		},
	}
}

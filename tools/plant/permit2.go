package main

// permit2Bugs lose money that is paid through Permit2.
func permit2Bugs() []bug {
	pays := proof{folder: "core", test: "TestPermit2Pays"}
	charged := proof{folder: "core", test: "TestPermit2MovementsAreAllCharged"}
	tricks := proof{folder: "core", test: "TestPermit2SellersThatMisbehave"}
	return []bug{
		{
			name:  "maximum-charged-whole",
			costs: "a session is charged the most that a service might have asked",
			edits: []edit{{"core/settle.go", `if c.prepaid == nil || upTo(t) {`, `if c.prepaid == nil {`}},
			proof: pays,
		},
		{
			name:  "permit2-asks-the-token",
			costs: "Permit2's nonces are looked for in the token, which has none of them: a payment that the nodes show late is released",
			edits: []edit{{"core/secondpass.go", `used = s.chain.Permit2Used`, `used = s.chain.AuthorizationUsed`}},
			proof: proof{folder: "core", test: "TestHoldWaitsForTheSecondPass"},
		},
		{
			name:  "hidden-settlement-is-anybodys",
			costs: "a seller that keeps the call data from before is paid by the operator, and the session gets its money back",
			edits: []edit{{"core/permitted.go", `if to.payments[i] == nil {`, `if to.payments == nil {`}},
			proof: tricks,
		},
		{
			name:  "call-data-is-believed",
			costs: "a seller shows one payment's number and settles another: a movement is left over, and is paid from everybody's deposits",
			edits: []edit{{"core/permitted.go", `if len(second.taken) > len(first.taken) {`, `if len(second.taken) < 0 {`}},
			proof: charged,
		},
		{
			name:  "largest-maximum-first",
			costs: "a small settlement takes the payment that alone could have been the large one, which nobody is charged for",
			edits: []edit{{"core/permitted.go", `cmp.Compare(a.Quoted, b.Quoted)`, `cmp.Compare(b.Quoted, a.Quoted)`}},
			proof: charged,
		},
		{
			name:  "booked-movement-named-again",
			costs: "a crash between two movements of a transaction has the second payment charged by the first's movement",
			edits: []edit{{"core/permitted.go", `} else if !booked {`, `} else if booked || !booked {`}},
			proof: proof{folder: "core", test: "TestPermit2SettledTogetherSurvivesACrash"},
		},
		{
			name:  "failed-settlement-charged",
			costs: "of two settlements in one transaction one has failed: the session that it was of pays for the other",
			edits: []edit{{"core/permitted.go", `if n.used[useAt{t.ID, block}] {`, `if n.used[useAt{t.ID, block}] || n.knows(useAt{t.ID, block}) {`}},
			proof: proof{folder: "core", test: "TestPermit2SettledTogether"},
		},
		{
			name:  "maximum-held-less-again",
			costs: "a reorganisation leaves a hold of what was settled first: what is settled then may be more, and is nobody's",
			edits: []edit{{"core/undo.go", `again(hold, back.Key, payment.Quoted)`, `again(hold, back.Key, hold.Posted)`}},
			proof: proof{folder: "core", test: "TestReorgOfPermit2"},
		},
		{
			name:  "allowance-once-for-all",
			costs: "calls at once count on the same allowance: what is beyond it cannot be settled, and its holds wait for nothing",
			edits: []edit{{"core/permit2.go", `if has >= need {`, `if has > 0 {`}},
			proof: proof{folder: "core", test: "TestPermit2AllowanceIsRenewed"},
		},
	}
}

package main

// permit2Bugs lose money that is paid through Permit2.
func permit2Bugs() []bug {
	pays := proof{folder: "core", test: "TestPermit2Pays"}
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
			edits: []edit{{"core/permitted.go", `range []bool{true, false} {`, `range []bool{true} {`}},
			proof: tricks,
		},
		{
			name:  "failed-settlement-charged",
			costs: "of two settlements in one transaction one has failed: the session that it was of pays for the other",
			edits: []edit{{"core/permitted.go", `if len(fit) == 1 {`, `if len(fit) > 0 {`}},
			proof: proof{folder: "core", test: "TestPermit2SettledTogether"},
		},
		{
			name:  "maximum-held-less-again",
			costs: "a reorganisation leaves a hold of what was settled first: what is settled then may be more, and is nobody's",
			edits: []edit{{"core/undo.go", `again(hold, back.Key, hold.Amount)`, `again(hold, back.Key, hold.Posted)`}},
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

package main

// meteredBugs are on the way of calls that bill by use.
func meteredBugs() []bug {
	const metered, collect, verify = "core/metered.go", "core/collect.go", "core/verify.go"
	prices := proof{folder: "core/pricing", test: "TestPrices"}
	return []bug{
		{
			name:  "failure-charged",
			costs: "a caller pays for a call that the service has refused",
			edits: []edit{{metered, `if resp.Status >= http.StatusBadRequest {`, `if resp.Status >= http.StatusInternalServerError {`}},
			proof: proof{folder: "core", test: "TestMeteredSession"},
		},
		{
			name:  "charge-above-the-maximum",
			costs: "a call costs more than was held for it, or is never booked",
			edits: []edit{{"core/pricing/pricing.go", `Add(money.USDC(part)).Min(p.Maximum)`, `Add(money.USDC(part))`}},
			proof: prices,
		},
		{
			name:  "first-of-two-counts",
			costs: "a body with a key twice is billed by one and served by the other: the operator pays the difference",
			edits: []edit{{"core/pricing/count.go", "\t\tseen[name] = true\n", ""}},
			proof: prices,
		},
		{
			name:  "maximum-kept-on-hold",
			costs: "what a wallet's call did not cost stays reserved for ever",
			edits: []edit{{collect, `{{Verb: ledger.Void, HoldID: first.ID}, hold}`, `{hold}`}},
			proof: proof{folder: "core", test: "TestMeteredWallet"},
		},
		{
			name:  "lost-commit-taken-for-an-end",
			costs: "a caller is told that nothing was charged for a call that was, and does not get its answer",
			edits: []edit{{"core/settle.go", `if err == nil && !own {`, `if err == nil && (!own || own) {`}},
			proof: proof{folder: "core", test: "TestMeteredWhoseCommitIsLost", postgres: true},
		},
		{
			name:  "charge-outside-the-limits",
			costs: "wallets' metered calls count for no limit once they are answered",
			edits: []edit{{collect, `, Counters: strings.Fields(first.Counters),`, `, Counters: strings.Fields(""),`}},
			proof: proof{folder: "core", test: "TestReorgOfMeteredPayments"},
		},
		{
			name:  "dead-call-released-early",
			costs: "the job gives a call up that is under way: it is served and not charged",
			edits: []edit{{metered, `transaction.ValidBeforeUnixLT(f.clock().Unix()), `, ``}},
			proof: proof{folder: "core", test: "TestMeteredCrash"},
		},
		{
			name:  "credential-handed-on",
			costs: "a caller reads the service's key from an answer that repeats it, and calls for nothing from then on",
			edits: []edit{{metered, "\t\tsendErr = scrub(resp, secret)\n", "\t\t_ = secret\n"}},
			proof: proof{folder: "core", test: "TestMeteredSecret"},
		},
		{
			name:  "credential-handed-on-packed",
			costs: "an answer in br repeats the key that a service is called with, and its caller calls the service without us",
			edits: []edit{{"core/catalogue.go", `len(resp.Body) > 0 && len(codings(resp.Header)) > 0`, `len(resp.Body) < 0 && len(codings(resp.Header)) > 0`}},
			proof: proof{folder: "core", test: "TestMeteredPacked"},
		},
		{
			name:  "stranger-bills-a-host",
			costs: "whoever registers a business on a host is paid for everybody's calls of it",
			edits: []edit{{"core/catalogue.go", `service.OrgIDIsNil(), `, ``}},
			proof: proof{folder: "core", test: "TestStrangersNameNobody"},
		},
		{
			name:  "call-verified-as-payment",
			costs: "the transfer that paid for a call is shown to the business again, which serves a second time",
			edits: []edit{{verify, "\t\tif ours {\n", "\t\tif ours && business.ID == uuid.Nil {\n"}},
			proof: proof{folder: "core", test: "TestGatewayVerify"},
		},
	}
}

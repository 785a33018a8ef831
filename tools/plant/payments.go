package main

// paymentBugs are on a call's way from its hold to its end.
func paymentBugs() []bug {
	const paying, settle, upstream = "core/paying.go", "core/settle.go", "core/upstream.go"
	unknown := proof{folder: "core", test: "TestUnknownOutcomes"}
	return []bug{
		{
			name:  "time-out-taken-for-failure",
			costs: "the hold of a proof that has left is given up: the seller takes the money, and it is spent once more",
			edits: []edit{{settle, `return f.unknown(ctx, t, 0, AsError(sendErr).Message)`, `return f.release(ctx, t, AsError(sendErr).Message)`}},
			proof: proof{folder: "core", test: "TestOnlyTheChainEndsAPayment"},
		},
		{
			name:  "fresh-nonce-after-time-out",
			costs: "a call that got no answer is paid again under a new nonce: the seller has two proofs and may use both",
			edits: []edit{{settle, "if sendErr != nil {\n", "if sendErr != nil {\n\t\tif c.in.Timeout == 0 {\n\t\t\tc.in.Timeout = defaultTimeout\n\t\t\t_, err := f.fetch(ctx, c.p, c.in, c.run)\n\t\t\treturn err\n\t\t}\n"}},
			proof: unknown,
		},
		{
			name:  "second-402-paid",
			costs: "a seller that asks again although it was paid is paid again",
			edits: []edit{{
				settle, "if !kept {\n",
				"if resp.Status == http.StatusPaymentRequired && c.in.Timeout == 0 {\n\t\tc.in.Timeout = defaultTimeout\n\t\t_, err := f.fetch(ctx, c.p, c.in, c.run)\n\t\t\treturn err\n\t}\n\tif !kept {\n",
			}},
			proof: unknown,
		},
		{
			name:  "proof-repeated-by-transport",
			costs: "the transport sends a paid request again when its connection breaks: a seller that serves each request serves and counts two",
			edits: []edit{{upstream, `struct{ io.Reader }{bytes.NewReader(r.Body)}`, `bytes.NewReader(r.Body)`}},
			proof: unknown,
		},
		{
			name:  "proof-follows-a-redirect",
			costs: "a proof is handed to whomever the seller names",
			edits: []edit{{upstream, `		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },` + "\n", ""}},
			proof: proof{folder: "core", test: "TestProofFollowsNoRedirect"},
		},
		{
			name:  "released-a-block-early",
			costs: "the hold ends while one more block still takes the proof: the seller's last chance is paid by nobody's hold",
			edits: []edit{{"core/resolve.go", `transaction.ValidBeforeUnixLTE(cursor.TimeUnix)`, `transaction.ValidBeforeUnixLTE(cursor.TimeUnix+2)`}},
			proof: proof{folder: "core", test: "TestOnlyTheChainEndsAPayment"},
		},
		{
			name:  "released-by-the-wall-clock",
			costs: "a chain that stands still, or a watcher behind it, makes live proofs look dead: their money is spent twice",
			edits: []edit{{"core/resolve.go", `transaction.ValidBeforeUnixLTE(cursor.TimeUnix)`, `transaction.ValidBeforeUnixLTE(f.clock().Unix())`}},
			proof: proof{folder: "core", test: "TestOnlyTheChainEndsAPayment"},
		},
		{
			name:  "key-not-noted-with-the-hold",
			costs: "a request whose process died after it paid is run again under its own idempotency key: it pays twice",
			edits: []edit{{paying, `rows := c.run.begunRows(id)`, `rows := []ledger.Row(nil)`}},
			proof: proof{folder: "core", test: "TestFetchThatDied"},
		},
		{
			name:  "offer-of-another-chain",
			costs: "a seller on a test network names the real one, and gets a signature that is good there",
			edits: []edit{{"pay/check.go", `case o.Network.ChainID != w.Network.ChainID:`, `case o.Network.ChainID == 0:`}},
			proof: proof{folder: "pay", test: "TestCheck"},
		},
		{
			name:  "login-kept-when-it-is-back",
			costs: "a process that dies has signed in somewhere, and nothing tells of it",
			edits: []edit{
				{"core/signin.go", `err := f.keepLogin(ctx, c); err != nil || c.why.Login.Refused != ""`, `c.why.Login.Refused != ""`},
				{"core/signin.go", `f.step(StepGreeted)`, `_, _ = f.keepLogin(ctx, c), f.step`},
			},
			proof: proof{folder: "core", test: "TestSignInSurvivesACrash"},
		},
	}
}

// transferBugs lose money that is sent before the answer.
func transferBugs() []bug {
	return []bug{
		{
			name:  "hash-shared",
			costs: "two transfers travel in one transaction: a seller takes its hash once, and one of them has paid for nothing",
			edits: []edit{{"core/carry.go", `case guarded(op.Kind), op.Kind == operation.KindTransfer:`, `case guarded(op.Kind):`}},
			proof: proof{folder: "core", test: "TestTransfersAtOnceHaveAHashEach"},
		},
		{
			name:  "transfer-paid-anew",
			costs: "a service takes a transfer and fails: the next call pays again, though the first one paid",
			edits: []edit{{"core/inhand.go", `operation.CreatedAtGT(now.Add(-shownAgain))`, `operation.CreatedAtGT(now)`}},
			proof: proof{folder: "core", test: "TestAHashIsShownAgain"},
		},
		{
			name:  "hash-in-two-hands",
			costs: "two calls show the hash of one transfer at once: the seller serves one of them, and the other is told that it paid",
			edits: []edit{{"core/inhand.go", `operation.Or(operation.HolderIsNil(), operation.HeldUntilUnixLT(now.Unix()))`, `operation.CreatedAtLTE(now)`}},
			proof: proof{folder: "core", test: "TestATransferIsInOneHand"},
		},
		{
			name:  "hash-of-a-lost-block",
			costs: "the chain drops the block of a transfer and mines it anew: the service is shown a hash that no block has, and never serves",
			edits: []edit{{"core/transfers.go", `if hash, err := f.operations.minedAs(ctx, op); err == nil {`, `if hash := common.HexToHash(*op.TxHash); hash != (common.Hash{}) {`}},
			proof: proof{folder: "core", test: "TestATransferIsUnminedAndOwed"},
		},
		{
			name:  "slow-call-writes",
			costs: "a call that is long over its time says that a transfer was not served which another call was served for",
			edits: []edit{{"core/inhand.go", `operation.Key(transferKey(d.payment.ID)), operation.Holder(d.hand)`, `operation.Key(transferKey(d.payment.ID))`}},
			proof: proof{folder: "core", test: "TestASlowCallChangesNothing"},
		},
	}
}

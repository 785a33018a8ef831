package main

import "slices"

// bugs are all that are planted, from the ledger outwards.
func bugs() []bug {
	return slices.Concat(booksBugs(), limitBugs(), paymentBugs(), transferBugs(), permit2Bugs(), meteredBugs(), approvalBugs(), operationBugs(), chainBugs())
}

const (
	judge = "core/ledger/judge.go"
	locks = "ent/migrate/postgres/20261126203000_ledger_load.sql"
)

// booksBugs are in the ledger itself.
func booksBugs() []bug {
	model := proof{folder: "core/ledger", test: "TestModel"}
	return []bug{
		{
			name:  "accounts-unlocked",
			costs: "two processes read one balance and both promise it: an account is overdrawn, and changes are lost",
			edits: []edit{{locks, `ORDER BY a.id FOR UPDATE`, `ORDER BY a.id`}},
			proof: proof{folder: "core/ledger", test: "TestAccountIsLocked", postgres: true},
		},
		{
			name:  "counters-unlocked",
			costs: "two processes read one counter and both pass: an owner's limit is overrun",
			edits: []edit{{locks, `ORDER BY u.id FOR UPDATE`, `ORDER BY u.id`}},
			proof: proof{folder: "core/ledger", test: "TestCounterIsLocked", postgres: true},
		},
		{
			name:  "pending-ignored",
			costs: "a wallet promises the same money to many sellers, who each hold a proof for it (a session is saved by its CHECK)",
			edits: []edit{{judge, `case a.Available() < m.Amount:`, `case a.Balance() < m.Amount:`}},
			proof: proof{folder: "core/ledger", test: "TestAccountIsLocked"},
		},
		{
			name:  "post-keeps-the-hold",
			costs: "a call that was charged stays reserved for ever: the payer loses its price twice",
			edits: []edit{{judge, "if err := j.end(e); err != nil {\n\t\treturn Entry{}, err\n\t}\n\tif err := j.shift(", "if err := j.shift("}},
			proof: model,
		},
		{
			name:  "void-keeps-what-was-spent",
			costs: "calls that failed count against the budget: an agent is starved by a broken seller",
			edits: []edit{{judge, `j.count(e.Counters, -e.Amount, -1)`, `j.count(e.Counters, 0, -1)`}},
			proof: model,
		},
		{
			name:  "limits-without-holds",
			costs: "a limit counts what was charged and not what is promised: calls in flight run past it",
			edits: []edit{
				{judge, `j.count(m.Counters, m.Amount, calls)`, `j.count(m.Counters, 0, calls)`},
				{judge, `j.count(e.Counters, m.Amount.Sub(e.Amount), 0)`, `j.count(e.Counters, m.Amount, 0)`},
				{judge, `j.count(e.Counters, -e.Amount, -1)`, `j.count(e.Counters, 0, -1)`},
			},
			proof: model,
		},
		{
			name:  "half-a-unit",
			costs: "a refusal leaves the moves before it: money is held for a call that never was",
			edits: []edit{{judge, "e, err := j.move(m)\n\t\tif err != nil {\n", "e, err := j.move(m)\n\t\tif err != nil {\n\t\t\tj.commit()\n"}},
			proof: proof{folder: "core/ledger", test: "TestUnitIsAllOrNothing"},
		},
		{
			name:  "answer-without-commit",
			costs: "a hold is answered whose COMMIT failed: the proof is signed over money that nothing reserves",
			edits: []edit{{"core/ledger/batch.go", "if err := tx.SQL.Commit(); err != nil {\n\t\tb.stats.failed()\n\t\treturn nil, err\n\t}", `_ = tx.SQL.Commit()`}},
			proof: proof{folder: "core/ledger", test: "TestAnswerIsOfTheCommit", postgres: true},
		},
		{
			name:  "float",
			costs: "an amount of dollars goes through a float: a unit is lost or made",
			edits: []edit{
				{"money/parse.go", "\"errors\"\n\t\"strings\"", "\"errors\"\n\t\"strconv\"\n\t\"strings\""},
				{
					"money/parse.go", `return digits(whole + frac + strings.Repeat("0", Decimals-len(frac)))`,
					"f, err := strconv.ParseFloat(s, 64)\n\tif err != nil || f > float64(Max)/1e6 {\n\t\treturn 0, ErrOutOfRange\n\t}\n\treturn USDC(f * 1e6), nil",
				},
			},
			proof: proof{folder: "money", test: "TestParseDecimalTable"},
		},
	}
}

// limitBugs let more through than an owner allowed.
func limitBugs() []bug {
	const budget = "core/policy/budget.go"
	return []bug{
		{
			name:  "limit-asked-too-late",
			costs: "a limit refuses once it is reached, not before it is passed: the last call may cost anything",
			edits: []edit{{budget, `w.Current.Add(w.Requested) <= w.Max`, `w.Current < w.Max`}},
			proof: proof{folder: "core/policy", test: "TestEachLimitRefusesOneUnitAbove"},
		},
		{
			name:  "local-day",
			costs: "days begin at the machine's midnight: two processes in two zones give an agent two days' limits",
			edits: []edit{{budget, `t.UTC().Format("2006-01-02")`, `t.Local().Format("2006-01-02")`}},
			proof: proof{folder: "core/policy", test: "TestDaysAreUTC"},
		},
		{
			name:  "window-of-23-hours",
			costs: "a rolling limit forgets an hour too early: a token spends it twice in one day",
			edits: []edit{{budget, `for h := hourOf(now) - hoursOfDay; h`, `for h := hourOf(now) - hoursOfDay + 1; h`}},
			proof: proof{folder: "core/policy", test: "TestRollingWindowToTheSecond"},
		},
		{
			name:  "look-alike-service",
			costs: "notexample.com passes for example.com: a stranger is paid under an owner's allowance",
			edits: []edit{{"core/policy/policy.go", `strings.HasSuffix(name, "."+rule)`, `strings.HasSuffix(name, rule)`}},
			proof: proof{folder: "core/policy", test: "TestMatches"},
		},
		{
			name:  "stale-policy",
			costs: "a call is judged by the limits that were read before it waited for its seller: an owner who closes the purse is too late",
			edits: []edit{{judge, `if !b.guards.hold(now, u.Guard) {`, `if false {`}},
			proof: proof{folder: "core", test: "TestPolicyTightenedDuringTheCallCounts"},
		},
		{
			name:  "agent-of-anybody",
			costs: "whoever knows an agent's id pays from its wallet",
			edits: []edit{{"core/fetch.go", `!found || !c.p.owns(v.agent.OrgID) || (`, `!found || (`}},
			proof: proof{folder: "core", test: "TestOthersSeeNothing"},
		},
		{
			name:  "drain-to-anybody",
			costs: "a stolen login sends a wallet's money to the thief",
			edits: []edit{{
				"core/funding.go", "if asked != dest {\n\t\treturn common.Address{}, E(Forbidden, \"Drains go to the owner's own wallet only\")\n\t}\n\treturn dest, nil",
				`return asked, nil`,
			}},
			proof: proof{folder: "core", test: "TestDrainAndDeactivate"},
		},
		{
			name:  "consent-of-anybody",
			costs: "a stranger who once allowed the relayer anything pays for a thief's agent (both looks at the signature are gone)",
			edits: []edit{
				{"core/consent.go", `return err == nil && who.Hex() == *a.AutoTopupSource`, `return err == nil && who != common.Address{}`},
				{"core/consent.go", `if signer, err := evm.Recover(digest, sig); err != nil || signer != who {`, `if _, err := evm.Recover(digest, sig); err != nil {`},
			},
			proof: proof{folder: "core", test: "TestTopUpFromAStranger"},
		},
	}
}

package main

// operationBugs are in what we send to the chain.
func operationBugs() []bug {
	const carry, include = "core/carry.go", "core/include.go"
	return []bug{
		{
			name:  "close-forgets-calls-in-flight",
			costs: "a session whose last money is held closes at once: what the call does not use has no way home",
			edits: []edit{{"core/closing.go", `if state.DebitsPending > 0 {`, `if false {`}},
			proof: proof{folder: "core", test: "TestCloseWaitsForWhatIsUnknown"},
		},
		{
			name:  "double-refund",
			costs: "a refund is taken for dead by the machine's clock and made anew while the token still takes the first: both are mined, the second from other sessions' money",
			edits: []edit{{"core/expire.go", `operation.ValidBeforeUnixLTE(at.TimeUnix)`, `operation.ValidBeforeUnixLTE(f.clock().Unix())`}},
			proof: proof{folder: "core", test: "TestRefundIsMadeOnce"},
		},
		{
			name:  "sent-before-stored",
			costs: "bytes leave before the commit that keeps them: a crash forgets them, and what only an account nonce guards is made anew under the next",
			edits: []edit{{carry, `carrier, err := tx.ChainTx.Create()`, "_ = o.chain.Send(ctx, raw)\n\tcarrier, err := tx.ChainTx.Create()"}},
			proof: proof{folder: "core", test: "TestStoredBeforeSent"},
		},
		{
			name:  "lost-receipt",
			costs: "a pull whose receipt the node has lost is taken for never mined and carried again: the owner's wallet pays twice",
			edits: []edit{{include, "if op.Kind == operation.KindGas || op.Kind == operation.KindTopUp {\n\t\treturn o.endReplaced(ctx, op, carrier)\n\t}\n", ""}},
			proof: proof{folder: "core", test: "TestPullWhoseReceiptIsLost"},
		},
		{
			name:  "bump-under-a-new-nonce",
			costs: "a stuck transaction goes out dearer under the next account nonce, not in place of the old one: both are mined, and a pull moves twice",
			edits: []edit{{"evm/calldata.go", `tx.Nonce(), fees, c)`, `tx.Nonce()+1, fees, c)`}},
			proof: proof{folder: "evm", test: "TestResignReplaces"},
		},
		{
			name:  "carried-by-two-processes",
			costs: "two processes each sign one pull under nonces of their own: the owner's wallet pays twice (the lease and the state in the WHERE are both gone)",
			edits: []edit{
				{carry, `return n == 1, err`, `return n >= 0, err`},
				{carry, `operation.IDIn(ids...), operation.StatusEQ(operation.StatusAuthorized)).`, `operation.IDIn(ids...)).`},
			},
			proof: proof{folder: "core", test: "TestPullIsCarriedByOne"},
		},
		{
			name:  "gas-at-each-funding",
			costs: "a wallet gets a grant of ether whenever it is funded: dust drains the relayer",
			edits: []edit{{"core/funding.go", `return "gas:" + agentID.String() }`, `return "gas:" + agentID.String() + uuid.NewString() }`}},
			proof: proof{folder: "core", test: "TestFundingIsSeenOnceAndGrantsGasOnce"},
		},
	}
}

// chainBugs are on the chain's way into the books.
func chainBugs() []bug {
	const watcher, reorg = "core/watcher.go", "core/reorg.go"
	return []bug{
		{
			name:  "log-without-its-index",
			costs: "of two deposits in one transaction the second is taken for a repeat: it is never credited",
			edits: []edit{{"core/booking.go", `m.TxHash.Hex(), m.LogIndex, m.BlockHash.Hex())`, `m.TxHash.Hex(), 0, m.BlockHash.Hex())`}},
			proof: proof{folder: "core", test: "TestLogsOfOneTransaction"},
		},
		{
			name:  "reorganisation-unnoticed",
			costs: "a deposit that the chain has taken back stays credited: calls go on, and the operator pays for them",
			edits: []edit{{reorg, `now.Hash.Hex() == b.Hash, err`, `now.Number == uint64(b.Number), err`}},
			proof: proof{folder: "core", test: "TestDepositThatNeverComesAgain"},
		},
		{
			name:  "late-transfer-is-anybodys",
			costs: "the operator pays for a session's transfer that was given up and is mined after all",
			edits: []edit{{"core/booking.go", `op.Status == operation.StatusExpired && pays(op.Kind)`, `op.Status == operation.StatusExpired && op.Kind == operation.KindGas`}},
			proof: proof{folder: "core", test: "TestTransferThatWasGivenUpIsMined"},
		},
		{
			name:  "cursor-passes-what-is-not-booked",
			costs: "a movement whose booking failed once is passed over: payments that the chain shows are given back as unused",
			edits: []edit{{
				watcher, "return fmt.Errorf(\"core: book %s: %w\", logKey(m.Movement), err)\n\t\t}\n\t\tf.step(StepLog)",
				"f.log.WarnContext(ctx, \"not booked\", \"error\", err)\n\t\t}\n\t\tf.step(StepLog)",
			}},
			proof: proof{folder: "core", test: "TestFailedBookingIsBookedLater"},
		},
		{
			name:  "orphan-booked",
			costs: "a process that was slower than a reorganisation books deposits of the branch that another has taken back: they are credited twice",
			edits: []edit{{watcher, `q := tx.Cursor.Query().Where(cursor.ID(at.ID), cursor.Block(at.Block), cursor.Hash(at.Hash))`, `q := tx.Cursor.Query().Where(cursor.ID(at.ID))`}},
			proof: proof{folder: "core", test: "TestOrphanIsNotBooked"},
		},
		{
			name:  "unconfirmed-deposit",
			costs: "money is credited in the block that shows it: whoever can take the block back has spent it by then",
			edits: []edit{{watcher, `target = head.Number - depth`, `target = head.Number`}},
			proof: proof{folder: "core", test: "TestNothingCountsBelowTheDepth"},
		},
		{
			name:  "session-outlives-its-deposit",
			costs: "a session whose deposit was un-mined goes on paying: the operator pays for it",
			edits: []edit{{"core/undo.go", `if op.SessionID == nil {`, `if op.SessionID == nil || op.Kind == operation.KindDeposit {`}},
			proof: proof{folder: "core", test: "TestDepositThatNeverComesAgain"},
		},
	}
}

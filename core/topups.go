package core

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/google/uuid"

	"bursar/core/ledger"
	"bursar/ent"
	"bursar/ent/agent"
	"bursar/ent/operation"
	"bursar/ent/transaction"
	"bursar/money"
)

// TopUps pull money from an owner's own wallet, the source, into the wallet of an agent that runs low: by the token's
// transferFrom, sent by the relayer, within the allowance that the source has given it. The source must have consented
// to this agent and these terms (see Consent): an allowance alone says nothing about whose agent it is for.
//
// A pull has no hold: its money is outside until the watcher sees it arrive. The account nonce guards it, so it is
// never made anew while the old one can still be mined; and it must be sent by the spender itself, in no batch contract.
type TopUps struct {
	*store
	operations *Operations
	agents     *Agents
}

// Bounds of top-ups.
const (
	topUpBatch      = 100              // agents in one run of the job
	topUpFirstPause = 30 * time.Second // after a failure; doubled by each further one
	topUpMostPause  = 15 * time.Minute
	topUpPatience   = 10 * time.Minute // what could not be signed for so long is given up
	topUpsADay      = 10               // amounts that a day may bring unless a daily limit says otherwise
	maxTopUpError   = 500              // bytes, of the column
)

// spender is whom a source gives its allowance to.
func (s *store) spender() common.Address { return s.keys.relayerAddress() }

// guarded tells the operations that no authorization can carry: the sender's account nonce is their only guard, and the
// number of a permit.
func guarded(k operation.Kind) bool {
	return k == operation.KindGas || k == operation.KindTopUp || permits(k)
}

// permits tells the operations that hand in a permit.
func permits(k operation.Kind) bool { return k == operation.KindPermit || k == operation.KindAllowance }

// RunDue begins a top-up for each active agent whose free balance is below its threshold and that has none under way.
// Of several processes one begins it. What cannot be pulled is noted on the agent and looked at again later.
func (t *TopUps) RunDue(ctx context.Context) error {
	ids, err := t.db.low(ctx, t.chainID(), t.now().Unix())
	if err != nil {
		return err
	}
	var all error
	for _, id := range ids {
		if err := t.run(ctx, id); err != nil {
			all = errors.Join(all, fmt.Errorf("core: top up agent %s: %w", id, err))
		}
	}
	return all
}

// low lists agents to be topped up. A pause that a failure has set, and anything under way, leave an agent out.
func (db *DB) low(ctx context.Context, chainID uint64, now int64) ([]uuid.UUID, error) {
	rows, err := db.read.QueryContext(ctx, db.bind(`SELECT g.id FROM agents g JOIN accounts a ON a.owner_id = g.id AND a.kind = 'wallet' AND a.chain_id = $1
		WHERE g.active AND g.auto_topup_source IS NOT NULL AND g.auto_topup_amount > 0 AND g.auto_topup_retry_unix <= $2
		AND a.credits_posted - a.debits_posted - a.debits_pending < g.auto_topup_threshold
		AND NOT EXISTS (SELECT 1 FROM operations o WHERE o.agent_id = g.id AND o.kind IN ('top_up', 'permit') AND o.status NOT IN ('final', 'expired', 'failed'))
		ORDER BY g.id LIMIT $3`), int64(chainID), now, topUpBatch)
	if err != nil {
		return nil, fmt.Errorf("core: agents to top up: %w", err)
	}
	defer rows.Close()
	var ids []uuid.UUID
	for rows.Next() {
		var id uuid.UUID
		if err := rows.Scan(&id); err != nil {
			return nil, fmt.Errorf("core: agents to top up: %w", err)
		}
		ids = append(ids, id)
	}
	return ids, rows.Err()
}

func (t *TopUps) run(ctx context.Context, id uuid.UUID) error {
	a, err := t.db.readEnt.Agent.Get(ctx, id)
	if err != nil {
		return err
	}
	why, err := t.shortfall(ctx, a)
	if err != nil {
		return err
	}
	err = t.inTx(ctx, func(ctx context.Context, tx *Tx) error {
		if why != "" {
			return t.failed(ctx, tx, a, why)
		}
		return t.begin(ctx, tx, id)
	})
	if errors.Is(err, errMoved) {
		return nil
	}
	if err == nil && why == "" {
		t.step(StepPull)
	}
	return err
}

// shortfall says why nothing can be pulled now, or nothing.
func (t *TopUps) shortfall(ctx context.Context, a *ent.Agent) (string, error) {
	if !t.consented(a) {
		return "The source has not been proven: its owner has not signed these terms", nil
	}
	source := common.HexToAddress(*a.AutoTopupSource)
	allowed, err := t.chain.Allowance(ctx, source, t.spender())
	if err != nil {
		return "", err
	}
	if allowed < *a.AutoTopupAmount {
		return fmt.Sprintf("The source allows %s USDC, %s are needed", allowed.Decimal(), a.AutoTopupAmount.Decimal()), nil
	}
	has, err := t.chain.BalanceOf(ctx, source, 0)
	if err != nil {
		return "", err
	}
	if has < *a.AutoTopupAmount {
		return fmt.Sprintf("The source has %s USDC, %s are needed", has.Decimal(), a.AutoTopupAmount.Decimal()), nil
	}
	return "", nil
}

// begin queues the agent's next top-up, unless it is no longer due or would pass the day's limit. The key has the number
// of the earlier ones, which is counted before anything else is looked at: whoever queues one in between takes the key
// or is seen.
func (t *TopUps) begin(ctx context.Context, tx *Tx, id uuid.UUID) error {
	earlier := tx.Operation.Query().Where(operation.AgentID(id), operation.KindEQ(operation.KindTopUp))
	n, err := earlier.Clone().Count(ctx)
	if err != nil {
		return err
	}
	open, err := earlier.Clone().Where(operation.StatusNotIn(operation.StatusFinal, operation.StatusExpired, operation.StatusFailed)).Exist(ctx)
	if err != nil || open {
		return err
	}
	a, err := tx.Agent.Get(ctx, id)
	if err != nil {
		return err
	}
	wallet, err := ledger.Find(ctx, tx.Client, ledger.Wallet, t.chainID(), id)
	if err != nil {
		return err
	}
	state, err := tx.Account.Get(ctx, wallet)
	if err != nil || !a.Active || !t.consented(a) || ledger.StateOf(state).Available() >= *a.AutoTopupThreshold {
		return err
	}
	pulled, err := t.today(ctx, earlier.Clone(), tx.Now)
	if err != nil {
		return err
	}
	if limit := dailyLimit(*a.AutoTopupAmount, a.AutoTopupDailyLimit); pulled.Add(*a.AutoTopupAmount) > limit {
		return t.failed(ctx, tx, a, fmt.Sprintf("The day's limit of %s USDC is reached", limit.Decimal()))
	}
	_, err = t.operations.queue(ctx, tx, newOperation{
		Key: fmt.Sprintf("topup:%s:%d", id, n), Kind: operation.KindTopUp, History: transaction.KindAutoTopup, OrgID: a.OrgID, AgentID: id,
		From: common.HexToAddress(*a.AutoTopupSource), To: common.HexToAddress(a.Address), Amount: *a.AutoTopupAmount,
	})
	if ent.IsConstraintError(err) {
		return errMoved // it has the key
	}
	return err
}

// today adds up what was queued in this UTC day and has not failed.
func (t *TopUps) today(ctx context.Context, q *ent.OperationQuery, now time.Time) (money.USDC, error) {
	var rows []struct {
		Agent uuid.UUID  `json:"agent_id"`
		Sum   money.USDC `json:"sum"`
	}
	err := q.Where(operation.CreatedAtGTE(startOfDay(now)), operation.StatusNotIn(operation.StatusExpired, operation.StatusFailed)).
		GroupBy(operation.FieldAgentID).Aggregate(ent.As(ent.Sum(operation.FieldAmount), "sum")).Scan(ctx, &rows)
	if err != nil || len(rows) == 0 {
		return 0, err
	}
	return rows[0].Sum, nil
}

func startOfDay(now time.Time) time.Time { return now.UTC().Truncate(24 * time.Hour) }

// dailyLimit is what a UTC day may bring.
func dailyLimit(amount money.USDC, set *money.USDC) money.USDC {
	if set != nil {
		return *set
	}
	return min(topUpsADay*amount, money.Max)
}

// failed notes on the agent why it could not be topped up, and when to look again: later each time.
func (s *store) failed(ctx context.Context, tx *Tx, a *ent.Agent, why string) error {
	pause := topUpFirstPause
	if a.AutoTopupFailedAt != nil {
		last := time.Duration(a.AutoTopupRetryUnix-a.AutoTopupFailedAt.Unix()) * time.Second
		pause = min(max(2*last, topUpFirstPause), topUpMostPause)
	}
	why = cut(why, maxTopUpError)
	if why != a.AutoTopupError {
		s.log.WarnContext(ctx, "agent cannot be topped up", "agent_id", a.ID, "reason", why)
	}
	// Not over what somebody else has noted meanwhile, nor over new terms.
	return tx.Agent.Update().Where(agent.ID(a.ID), agent.AutoTopupRetryUnix(a.AutoTopupRetryUnix), agent.AutoTopupConsentUnix(a.AutoTopupConsentUnix)).
		SetAutoTopupError(why).SetAutoTopupFailedAt(tx.Now).SetAutoTopupRetryUnix(tx.Now.Add(pause).Unix()).Exec(ctx)
}

// cut shortens a text to at most n bytes.
func cut(text string, n int) string {
	if len(text) <= n {
		return text
	}
	for n > 0 && text[n]&0xc0 == 0x80 { // never inside a character
		n--
	}
	return text[:n]
}

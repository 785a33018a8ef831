package metrics

import (
	"math/big"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"bursar/core"
	"bursar/money"
)

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("bursar_"+name, help, labels, nil)
}

var (
	complete = desc("figures_complete", "1 when this source told its figures within the time of the scrape.", "source")

	accounts = desc("accounts", "Accounts of the ledger by kind.", "kind")
	balance  = desc("balance_atomic_usdc", "Posted money of all accounts of a kind, in atomic units of USDC; what is outside is negative.", "kind")
	pending  = desc("pending_atomic_usdc", "Promised money of all accounts of a kind, in atomic units of USDC.", "kind")

	holds         = desc("holds_pending", "Holds that have not ended.")
	holdsAge      = desc("holds_pending_oldest_seconds", "Age of the oldest of them; 0 when there is none.")
	payments      = desc("payments_open", "Payments without an end, by status.", "status")
	paymentsAge   = desc("payments_open_oldest_seconds", "Age of the oldest of them; 0 when there is none.", "status")
	operations    = desc("operations_open", "Operations without an end, by state.", "state")
	operationsAge = desc("operations_open_oldest_seconds", "Age of the oldest of them; 0 when there is none.", "state")
	outcomes      = desc("payments_total", "Steps that payments have made in this process.", "outcome")

	watcherBlock = desc("watcher_block", "The chain is booked up to this block.")
	watcherTime  = desc("watcher_block_timestamp_seconds", "Time of that block.")
	head         = desc("chain_head_block", "Newest block of the chain.")
	behind       = desc("watcher_behind_blocks", "Blocks from the watcher to the head; the confirmed depth is always part of it.")
	relayer      = desc("relayer_wei", "Ether of the address that pays gas, in wei; of several the least.")
	nodeFailures = desc("rpc_node_failures_total", "Requests that a node of the chain left without a usable answer.", "host")

	auditDifferences = desc("audit_differences", "Differences that the last proof of the books has found; anything but 0 is an emergency.")
	auditTime        = desc("audit_timestamp_seconds", "When that proof was made.")

	ledgerUnits    = desc("ledger_batch_units", "Requests that shared a commit of the ledger.")
	ledgerDuration = desc("ledger_commit_duration_seconds", "Statements and commit of a ledger's transaction.")
	ledgerFailed   = desc("ledger_failed_transactions_total", "Transactions of the ledger that were given up; their requests were tried again one by one.")
)

// figures renders what core tells, for one scrape.
type figures struct {
	*core.Figures
	nodeFailures func() map[string]uint64
}

// Describe says nothing beforehand: what there is differs from scrape to scrape.
func (f figures) Describe(chan<- *prometheus.Desc) {}

// Collect renders.
func (f figures) Collect(out chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	counter := func(d *prometheus.Desc, v uint64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	for source, err := range map[string]error{"database": f.Database, "chain": f.Chain} {
		gauge(complete, truth(err == nil), source)
	}
	if f.Database == nil {
		f.stored(gauge)
	}
	if f.Chain == nil {
		gauge(head, float64(f.Head))
		gauge(relayer, wei(f.RelayerWei))
		if f.Database == nil && f.Block > 0 {
			gauge(behind, float64(f.Head)-float64(f.Block))
		}
	}
	for _, o := range core.Outcomes() {
		counter(outcomes, f.Outcomes[o], string(o))
	}
	if f.nodeFailures != nil {
		for host, n := range f.nodeFailures() {
			counter(nodeFailures, n, host)
		}
	}
	if f.LastAudit != nil {
		gauge(auditDifferences, float64(f.LastAudit.Differences))
		gauge(auditTime, seconds(f.LastAudit.At))
	}
	out <- histogram(ledgerUnits, f.Ledger.Units, 1)
	out <- histogram(ledgerDuration, f.Ledger.Duration, float64(time.Second/time.Microsecond))
	counter(ledgerFailed, f.Ledger.Failed)
}

func (f figures) stored(gauge func(*prometheus.Desc, float64, ...string)) {
	for _, a := range f.Accounts {
		gauge(accounts, float64(a.Count), a.Kind)
		gauge(balance, shown(a.Balance), a.Kind)
		gauge(pending, shown(a.Pending), a.Kind)
	}
	open := func(count, age *prometheus.Desc, o core.Open, labels ...string) {
		gauge(count, float64(o.Count), labels...)
		old := time.Duration(0)
		if !o.Oldest.IsZero() {
			old = max(0, f.At.Sub(o.Oldest))
		}
		gauge(age, old.Seconds(), labels...)
	}
	open(holds, holdsAge, f.Holds)
	for status, o := range f.Payments {
		open(payments, paymentsAge, o, status.String())
	}
	for state, o := range f.Operations {
		open(operations, operationsAge, o, state.String())
	}
	if f.Block > 0 {
		gauge(watcherBlock, float64(f.Block))
		gauge(watcherTime, seconds(f.BlockTime))
	}
}

// shown is an amount as Prometheus keeps it: for a curve, exact to 2^53 units (9 billion USDC) and never computed with.
func shown(a money.USDC) float64 { return float64(a) }

func wei(v *big.Int) float64 {
	f, _ := new(big.Float).SetInt(v).Float64()
	return f
}

func seconds(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// histogram renders core's form; unit is how many of its units are one of Prometheus's.
func histogram(d *prometheus.Desc, h core.Histogram, unit float64) prometheus.Metric {
	buckets, n := map[float64]uint64{}, uint64(0)
	for i, bound := range h.Bounds {
		n += h.Counts[i]
		buckets[float64(bound)/unit] = n
	}
	n += h.Counts[len(h.Bounds)]
	return prometheus.MustNewConstHistogram(d, n, float64(h.Sum)/unit, buckets)
}

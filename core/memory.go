package core

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/json"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/google/uuid"

	"bursar/core/ledger"
	"bursar/ent"
	"bursar/money"
	"bursar/pay"
)

// What an organisation remembers of the services that its agents have paid: for each route of a host the offer that was
// taken last, and for each host whom it was paid to. Both are written in the commit that reserves the money, so that
// nothing is remembered that was only asked for. What a price is compared with, the usual one, follows what was charged: a
// seller that settles nothing teaches nothing but its first price.

// Bounds of the memory.
const (
	maxRoutes = 256             // of one host; the one that was unused for longest is forgotten
	maxOffer  = 8 << 10         // bytes of an offer's text that is kept
	settled   = 16              // an offer that was taken so often in a row
	settledIn = 5 * time.Minute // is written down again after this
)

// place is where the memory of a call is found.
type place struct {
	host, price uuid.UUID // Payee.HostID, Price.ID
	route       string    // method and path
}

// placeOf names a call's place. A path has one spelling, whichever of its characters are escaped.
func (s *store) placeOf(org uuid.UUID, method string, t target) place {
	path := (&url.URL{Path: t.url.Path}).EscapedPath()
	if path == "" {
		path = "/"
	}
	p := place{host: s.hostID(org, t.paid()), route: method + " " + path}
	p.price = uuid.NewHash(sha256.New(), p.host, []byte(p.route), ownVersion)
	return p
}

const ownVersion = 8 // of the ids that are hashes of our own (RFC 9562)

// hostID is a host in an organisation's memory of this chain.
func (s *store) hostID(org uuid.UUID, host string) uuid.UUID {
	return uuid.NewHash(sha256.New(), org, []byte(strconv.FormatUint(s.chainID(), 10)+" "+whose(host)), ownVersion)
}

// whose is a host without its port: who answers at one of its ports may answer at another. Only this machine's own services,
// which are many strangers in development, are told apart by them.
func whose(host string) string {
	name := (&url.URL{Host: host}).Hostname()
	if a, err := netip.ParseAddr(name); name == "localhost" || (err == nil && a.IsLoopback()) {
		return host
	}
	return name
}

const selPrices = `SELECT id, protocol, scheme, network, asset, payee, amount, COALESCE(usual, amount), offer, same, since_unix, seen_unix
	FROM prices WHERE id `

func (s *store) loadPrices(ctx context.Context, ids []uuid.UUID) (map[uuid.UUID]*ent.Price, error) {
	found := make(map[uuid.UUID]*ent.Price, len(ids))
	err := s.db.list(ctx, selPrices, "uuid", texts(ids), func(rows *sql.Rows) error {
		p := &ent.Price{}
		err := rows.Scan(&p.ID, &p.Protocol, &p.Scheme, &p.Network, &p.Asset, &p.Payee, &p.Amount, &p.Usual, &p.Offer, &p.Same, &p.SinceUnix, &p.SeenUnix)
		found[p.ID] = p
		return err
	})
	return found, err
}

// recallPrice begins to read what is remembered of the call's route.
func (f *Payments) recallPrice(ctx context.Context, c *call) {
	c.recall = f.readers.prices.ask(ctx, c.place.price)
}

// remembered waits for what recallPrice reads; nil: nothing is known of the route.
func (c *call) remembered(ctx context.Context) (*ent.Price, error) {
	p, found, err := c.recall.get(ctx)
	if !found {
		p = nil
	}
	return p, err
}

// offerText is an offer as the memory keeps it: equal for equal offers, and all that is needed to take it again. It is
// empty for one that is too large.
func offerText(o pay.Offer) string {
	text, err := json.Marshal(o)
	if err != nil || len(text) > maxOffer {
		return "" // plain data always marshals
	}
	return string(text)
}

// memoryRows write down an offer that is taken. One that the caller has shown teaches nothing: the service may never have
// asked so. A person who approves it vouches for its payee.
func (c *call) memoryRows(t *ent.Transaction, d *decision) []ledger.Row {
	switch {
	case !c.shown:
		return slices.Concat(c.priceRows(t, d), c.payeeRows(t, d))
	case d.approval != nil:
		return c.payeeRows(t, d)
	}
	return nil
}

func (c *call) priceRows(t *ent.Transaction, d *decision) []ledger.Row {
	o, known, text, now := d.offer, d.memory.price, offerText(d.offer), t.CreatedAt.Unix()
	same := text != "" && known != nil && known.Offer == text
	if same && d.approval == nil && known.Same >= settled && now-known.SeenUnix < int64(settledIn/time.Second) {
		return nil
	}
	out := []ledger.Row{{Into: setPriceRow, Values: []any{
		c.place.price.String(), t.CreatedAt, t.OrgID.String(), c.place.host.String(), whose(c.target.paid()), c.place.route, o.Protocol, o.Scheme,
		o.Network.Name, o.Asset.Hex(), o.PayTo.Hex(), int64(o.Amount), text, now,
	}}}
	if known == nil {
		out = append(out, ledger.Row{Into: forgetPricesRow, Values: []any{c.place.host.String()}})
	}
	if d.approval != nil { // a person has seen this price
		out = append(out, charged(t, t.Quoted)...)
	}
	return out
}

// charged makes a payment's price the usual one of its route, where that changes it. A maximum above the usual price raises
// it to what was charged under it: else a seller could charge next to nothing under maxima that rise with each call.
func charged(t *ent.Transaction, amount money.USDC) []ledger.Row {
	if t.PriceID == nil {
		return nil
	}
	return []ledger.Row{{Into: usualPriceRow, Values: []any{t.PriceID.String(), int64(t.Quoted), int64(amount)}}}
}

// payeeRows add a payee who is new. Where the policy does more than note one, the row must be hit.
func (c *call) payeeRows(t *ent.Transaction, d *decision) []ledger.Row {
	if d.memory.payee(d.offer) {
		return nil
	}
	row := ledger.Row{Into: addPayeeRow, Values: []any{
		uuid.Must(uuid.NewV7()).String(), t.CreatedAt, t.OrgID.String(), c.place.host.String(), whose(c.target.paid()), d.offer.PayTo.Hex(),
		t.AgentID.String(), t.ID.String(), d.memory.last + 1,
	}}
	if c.budget.Agent.PayeeMatters() {
		row.Into = newPayeeRow
	}
	return []ledger.Row{row}
}

// charged is what the answer to a metered call teaches of its route's price.
func (c *call) charged(t *ent.Transaction, cost money.USDC) []ledger.Row {
	if cost == 0 || t.Quoted == c.usual {
		return nil
	}
	return charged(t, cost)
}

var (
	// setPriceRow may meet one route several times in a batch: the newest counts then, once. The first price of a route is
	// the usual one until something is charged.
	setPriceRow = &ledger.Statement{
		Name: "remember a price", Table: "prices", MayMiss: true,
		Columns: []string{
			"uuid", "timestamptz", "uuid", "uuid", "text", "text", "text", "text", "text", "text", "text", "bigint", "text", "bigint",
		},
		Postgres: `INSERT INTO prices (id, created_at, org_id, host_id, host, route, protocol, scheme, network, asset, payee, amount, usual, offer,
			same, since_unix, seen_unix)
			SELECT DISTINCT ON (c1) c1, c2, c3, c4, c5, c6, c7, c8, c9, c10, c11, c12, c12, c13, CASE c13 WHEN '' THEN 0 ELSE 1 END, c14, c14
			FROM v ORDER BY c1, c2 DESC ` + onKnownPrice,
		SQLite: `INSERT INTO prices (id, created_at, org_id, host_id, host, route, protocol, scheme, network, asset, payee, amount, usual, offer,
			same, since_unix, seen_unix)
			VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?12, ?13, CASE ?13 WHEN '' THEN 0 ELSE 1 END, ?14, ?14) ` + onKnownPrice,
	}
	// usualPriceRow takes the price c2 of which c3 was charged. Whoever writes it holds the lock on the organisation's counter,
	// as for every row of this table: its moves end the payment's hold. Of several in a batch the lowest price counts.
	usualPriceRow = &ledger.Statement{
		Name: "charge a price", Table: "prices", MayMiss: true, Columns: []string{"uuid", "bigint", "bigint"},
		Postgres: `UPDATE prices p SET usual = LEAST(n.c2, GREATEST(COALESCE(p.usual, p.amount), n.c3))
			FROM (SELECT DISTINCT ON (c1) c1, c2, c3 FROM v ORDER BY c1, c2, c3) n
			WHERE p.id = n.c1 AND (n.c2 < COALESCE(p.usual, p.amount) OR n.c3 > COALESCE(p.usual, p.amount))`,
		SQLite: `UPDATE prices SET usual = MIN(?2, MAX(COALESCE(usual, amount), ?3))
			WHERE id = ?1 AND (?2 < COALESCE(usual, amount) OR ?3 > COALESCE(usual, amount))`,
	}
	// addPayeeRow leaves a payee for its next payment when another has taken the number meanwhile; newPayeeRow does not: of
	// two payments that were judged by the same payees, one is judged anew.
	addPayeeRow = payeeStatement("remember a payee", true)
	newPayeeRow = payeeStatement("admit a payee", false)
	// forgetPricesRow keeps a host's routes within their bound.
	forgetPricesRow = &ledger.Statement{
		Name: "forget prices", Table: "prices", MayMiss: true, Columns: []string{"uuid"},
		Postgres: fmt.Sprintf(`DELETE FROM prices WHERE id IN (SELECT p.id FROM (SELECT DISTINCT c1 FROM v) h CROSS JOIN LATERAL
			(SELECT id FROM prices WHERE host_id = h.c1 ORDER BY seen_unix DESC, id OFFSET %d) p)`, maxRoutes),
		SQLite: fmt.Sprintf(`DELETE FROM prices WHERE id IN
			(SELECT id FROM prices WHERE host_id = ?1 ORDER BY seen_unix DESC, id LIMIT -1 OFFSET %d)`, maxRoutes),
	}
)

func payeeStatement(name string, mayMiss bool) *ledger.Statement {
	const into = `INSERT INTO payees (id, created_at, org_id, host_id, host, address, agent_id, payment_id, number) `
	return &ledger.Statement{
		Name: name, Table: "payees", MayMiss: mayMiss, Columns: []string{"uuid", "timestamptz", "uuid", "uuid", "text", "text", "uuid", "uuid", "bigint"},
		Postgres: into + `SELECT c1, c2, c3, c4, c5, c6, c7, c8, c9 FROM v ON CONFLICT DO NOTHING`,
		SQLite:   into + `VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) ON CONFLICT DO NOTHING`,
	}
}

const onKnownPrice = `ON CONFLICT (id) DO UPDATE SET protocol = excluded.protocol, scheme = excluded.scheme, network = excluded.network,
	asset = excluded.asset, payee = excluded.payee, usual = COALESCE(prices.usual, prices.amount), amount = excluded.amount, offer = excluded.offer, seen_unix = excluded.seen_unix,
	same = CASE WHEN excluded.same = 1 AND prices.offer = excluded.offer THEN prices.same + 1 ELSE excluded.same END,
	since_unix = CASE WHEN prices.offer = excluded.offer THEN prices.since_unix ELSE excluded.since_unix END`

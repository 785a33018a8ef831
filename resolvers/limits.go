package resolvers

import (
	"context"
	"strings"
	"time"

	"github.com/99designs/gqlgen/graphql"
	"github.com/google/uuid"
	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/gqlerror"
	"github.com/vektah/gqlparser/v2/parser"

	"bursar/core"
	"bursar/ent/apikey"
	"bursar/graph"
)

// Bounds of a request. All but the last are judged before validation, which is quadratic in what it is given, and
// before the reckoning of complexity, which writes all fragments out.
const (
	maxBody       = 1 << 20 // bytes
	maxTokens     = 2000
	maxFields     = 320 // and spreads, all fragments written out; the introspection of graphql-js has 240
	maxDepth      = 16  // levels; that introspection has 15
	maxAliases    = 30
	maxRoots      = 20     // fields of the first level
	maxSignIns    = 1      // each hashes a password, and a batch of them would be a guesser's tool
	maxComplexity = 10_000 // fields of the answer, as weights reckons them
	usualRows     = 100    // of a list without a limit, for weights
	auditCost     = 3000   // of a proof, for weights: it reads all of an organisation's history, and the chain
	replayCost    = 1000   // of trying a draft: it reads thousands of calls
	historyCost   = 50     // of a past balance: it reads all of an account's history
	queryCost     = 5      // of a field that asks the database by itself
)

// weights says what the fields of lists cost; every other field costs one and what is in it.
func weights() (c graph.ComplexityRoot) {
	rows := func(inside int) int { return 1 + usualRows*inside }
	c.Query.Agents, c.Query.Departments, c.BalanceOverview.Agents = rows, rows, rows
	c.Query.APIKeys = func(inside int, _ apikey.Kind) int { return rows(inside) }
	c.Query.Sessions = func(inside int, _ *uuid.UUID) int { return rows(inside) }
	c.Query.Transactions = func(inside int, _ *core.TransactionFilter, limit, _ int32) int {
		return 1 + int(min(max(limit, 1), usualRows))*inside
	}
	c.Query.Traces = func(inside int, _ *core.TraceFilter, limit, _ int32) int {
		return 1 + int(min(max(limit, 1), usualRows))*inside
	}
	c.Query.Services = func(inside int, limit, _ int32) int { return 1 + int(min(max(limit, 1), usualRows))*inside }
	c.Query.Businesses = func(inside int) int { return rows(queryCost + inside) }
	c.Query.PolicyReplay = func(inside int, _ graph.PolicyReplayInput) int { return replayCost + inside }
	c.PolicyReplay.Differences = rows
	c.Trace.Transaction = func(inside int) int { return queryCost + inside }
	c.Transaction.Trace = func(inside int) int { return queryCost + inside }
	c.Query.Audit = func(inside int) int { return auditCost + inside }
	c.Agent.BalanceAt = func(inside int, _ time.Time) int { return historyCost + inside }
	c.Session.BalanceAt = func(inside int, _ time.Time) int { return historyCost + inside }
	c.Transaction.GasFee = func(int) int { return queryCost }
	return c
}

// limits refuses documents that are too large to be validated cheaply, and those that need a credential from who
// has none.
type limits struct{}

// ExtensionName names the extension.
func (limits) ExtensionName() string { return "Limits" }

// Validate has nothing to check in the schema.
func (limits) Validate(graphql.ExecutableSchema) error { return nil }

// MutateOperationParameters judges the document before gqlgen parses and validates it. What does not parse is left
// to gqlgen, which says where.
func (limits) MutateOperationParameters(ctx context.Context, p *graphql.RawParams) *gqlerror.Error {
	doc, err := parser.ParseQueryWithTokenLimit(&ast.Source{Input: p.Query}, maxTokens)
	if err != nil {
		return nil
	}
	s := measure(doc, p.OperationName)
	for _, bound := range []struct {
		what     string
		got, max int
	}{
		{"fields", s.fields, maxFields},
		{"levels", s.depth, maxDepth},
		{"aliases", s.aliases, maxAliases},
		{"fields of the first level", s.roots, maxRoots},
		{"sign-ins", s.signIns, maxSignIns},
	} {
		if bound.got > bound.max {
			return fault("DOCUMENT_TOO_LARGE", "The document has too many %s: at most %d", bound.what, bound.max)
		}
	}
	if s.private > 0 && anonymous(ctx) {
		return fault(strings.ToUpper(string(core.Unauthorized)), "Authentication required")
	}
	return nil
}

// size is what a selection set comes to with all its fragments written out.
type size struct {
	fields, aliases, depth  int // of all levels
	roots, signIns, private int // of the first level
}

// plenty is above every bound; sums stop there, as fragments can multiply beyond any number.
const plenty = 1 << 20

func (s *size) add(o size) {
	s.fields, s.aliases, s.depth = min(s.fields+o.fields, plenty), min(s.aliases+o.aliases, plenty), max(s.depth, o.depth)
	s.roots, s.signIns, s.private = min(s.roots+o.roots, plenty), min(s.signIns+o.signIns, plenty), min(s.private+o.private, plenty)
}

// measure adds up the operations of a document, and the fragments that none of them uses, since validation looks
// into all. Roots and sign-ins are those of the largest operation, as one operation runs; what is private counts in
// the one that is named to run.
func measure(doc *ast.QueryDocument, operation string) size {
	m := measurer{doc: doc, known: map[string]size{}}
	var all size
	for _, op := range doc.Operations {
		s := m.set(op.SelectionSet)
		all.roots, all.signIns = max(all.roots, s.roots), max(all.signIns, s.signIns)
		if op == doc.Operations.ForName(operation) {
			all.private = s.private
		}
		s.roots, s.signIns, s.private = 0, 0, 0
		all.add(s)
	}
	for _, f := range doc.Fragments {
		if _, used := m.known[f.Name]; !used {
			s := m.fragment(f.Name)
			all.add(size{fields: s.fields, aliases: s.aliases, depth: s.depth})
		}
	}
	return all
}

type measurer struct {
	doc   *ast.QueryDocument
	known map[string]size // of fragments
}

func (m *measurer) set(set ast.SelectionSet) (s size) {
	for _, selection := range set {
		switch v := selection.(type) {
		case *ast.Field:
			s.add(m.field(v))
		case *ast.InlineFragment:
			s.add(m.set(v.SelectionSet))
		case *ast.FragmentSpread:
			s.add(m.fragment(v.Name))
		}
	}
	return s
}

func (m *measurer) field(f *ast.Field) size {
	inside := m.set(f.SelectionSet)
	s := size{fields: 1 + inside.fields, aliases: inside.aliases, depth: 1 + inside.depth, roots: 1}
	if f.Alias != f.Name {
		s.aliases++
	}
	switch f.Name {
	case "register", "login":
		s.signIns = 1
	case "__typename", "__schema", "__type":
	default:
		s.private = 1
	}
	return s
}

// fragment measures each fragment once. A ring of fragments counts as if it ended; validation refuses it.
func (m *measurer) fragment(name string) size {
	if s, ok := m.known[name]; ok {
		return s
	}
	s := size{fields: 1}
	m.known[name] = s
	if f := m.doc.Fragments.ForName(name); f != nil {
		s.add(m.set(f.SelectionSet))
		m.known[name] = s
	}
	return s
}

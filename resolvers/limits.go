package resolvers

import (
	"context"

	"github.com/99designs/gqlgen/graphql"
	"github.com/99designs/gqlgen/graphql/handler/lru"
	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/gqlerror"
	"github.com/vektah/gqlparser/v2/parser"
)

func newQueryCache(size int) graphql.Cache[*ast.QueryDocument] {
	return lru.New[*ast.QueryDocument](size)
}

// limits refuses documents that are too large to be validated cheaply: 24 KB of one field repeated would take
// seconds there.
type limits struct{}

// ExtensionName names the extension.
func (limits) ExtensionName() string { return "Limits" }

// Validate has nothing to check in the schema.
func (limits) Validate(graphql.ExecutableSchema) error { return nil }

// MutateOperationParameters judges the document before gqlgen parses and validates it. What does not parse is left
// to gqlgen, which says where.
func (limits) MutateOperationParameters(_ context.Context, p *graphql.RawParams) *gqlerror.Error {
	doc, err := parser.ParseQueryWithTokenLimit(&ast.Source{Input: p.Query}, maxTokens)
	if err != nil {
		return nil
	}
	var c counter
	for _, op := range doc.Operations {
		c.walk(op.SelectionSet, 1)
	}
	for _, f := range doc.Fragments {
		c.walk(f.SelectionSet, 1)
	}
	switch {
	case c.selections > maxSelections:
		return refuse("too many fields: at most %d", maxSelections)
	case c.depth > maxDepth:
		return refuse("nested too deeply: at most %d levels", maxDepth)
	case c.aliases > maxAliases:
		return refuse("too many aliases: at most %d", maxAliases)
	}
	return nil
}

func refuse(format string, args ...any) *gqlerror.Error {
	e := gqlerror.Errorf("The document is "+format, args...)
	e.Extensions = map[string]any{"code": "DOCUMENT_TOO_LARGE"}
	return e
}

type counter struct{ selections, depth, aliases int }

func (c *counter) walk(set ast.SelectionSet, depth int) {
	c.depth = max(c.depth, depth)
	for _, s := range set {
		c.selections++
		switch v := s.(type) {
		case *ast.Field:
			if v.Alias != "" && v.Alias != v.Name {
				c.aliases++
			}
			c.walk(v.SelectionSet, depth+1)
		case *ast.InlineFragment:
			c.walk(v.SelectionSet, depth+1)
		case *ast.FragmentSpread:
		}
	}
}

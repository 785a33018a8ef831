// Package graph is the GraphQL API: the schema, written by hand with one file a noun, and what gqlgen makes of it.
// gqlgen.yml says which Go type stands behind which name; server.go has the line that generates.
package graph

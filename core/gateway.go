package core

// Gateway is businesses that are paid through the catalogue.
type Gateway struct {
	*store
	services   *Services
	operations *Operations
}

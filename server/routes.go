package server

import "github.com/danielgtaylor/huma/v2"

// routes are all operations.
func (s *Server) routes() {
	s.events()
	s.stream()
	s.escalations()
	s.proofs()
	s.evidence()
	s.compliance()
	s.documents()
	s.uploads()
	s.search()
	s.access()
}

// describe completes the description.
func (s *Server) describe() error {
	schemas := s.api.OpenAPI().Components.Schemas.Map()
	schemas["Job"].Properties["document_id"].Nullable = true // their type is said by an alias, which knows no pointers
	schemas["EventCreated"].Properties["id"].Nullable = true
	for _, unused := range []string{"ErrorModel", "ErrorDetail", "FormFile"} { // huma's own, which no answer has
		delete(schemas, unused)
	}
	addExamples(s.api.OpenAPI().Components.Schemas)
	s.api.OpenAPI().Tags = []*huma.Tag{
		{Name: "Events", Description: "What agents did."}, {Name: "Escalations",
			Description: "Decisions that agents left to people."},
		{Name: "Evidence", Description: "Proofs, receipts, bundles and exports that outsiders verify."},
		{Name: "Compliance", Description: "Erasure, legal holds and retention."},
		{Name: "Documents", Description: "The knowledge base: documents, uploads and ingest jobs."},
		{Name: "Search", Description: "Passages that answer a query, and how well."},
		{Name: "Access", Description: "Principals, keys, users, roles and limits."},
		{Name: "Operations", Description: "Tenants, usage and models."},
	}
	return addDescriptions(s.api.OpenAPI())
}

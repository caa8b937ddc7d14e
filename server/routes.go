package server

import "github.com/danielgtaylor/huma/v2"

// routes registers all operations.
func (s *Server) routes() {
	s.events()
	s.stream()
	s.escalations()
	s.toolRules()
	s.proofs()
	s.evidence()
	s.compliance()
	s.documents()
	s.collections()
	s.uploads()
	s.search()
	s.access()
	s.webhooks()
}

// describe completes the API description.
func (s *Server) describe() error {
	schemas := s.api.OpenAPI().Components.Schemas.Map()
	schemas["Job"].Properties["document_id"].Nullable = true // an alias in the schema ignores pointers
	schemas["EventCreated"].Properties["id"].Nullable = true
	for _, unused := range []string{"ErrorModel", "ErrorDetail", "FormFile"} { // huma's own, used by no response
		delete(schemas, unused)
	}
	addExamples(s.api.OpenAPI().Components.Schemas)
	s.api.OpenAPI().Tags = []*huma.Tag{
		{Name: "Events", Description: "What agents did."}, {Name: "Escalations",
			Description: "Decisions that agents left to people."},
		{Name: "Evidence", Description: "Proofs, receipts, bundles and exports that outsiders verify."},
		{Name: "Compliance", Description: "Erasure, legal holds and retention."},
		{Name: "Documents", Description: "The knowledge base: documents, uploads and ingest jobs."},
		{Name: "Collections", Description: "Named sets of documents, with attributes of their own for each."},
		{Name: "Search", Description: "Search in the knowledge base, and its evaluation."},
		{Name: "Access", Description: "Principals, keys, users, roles and limits."},
		{Name: "Webhooks", Description: "Endpoints that are told what happens, and deliveries."},
		{Name: "Operations", Description: "Tenants, usage and models."},
	}
	return addDescriptions(s.api.OpenAPI())
}

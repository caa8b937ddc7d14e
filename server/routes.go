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
func (s *Server) describe() {
	schemas := s.api.OpenAPI().Components.Schemas.Map()
	schemas["KbJob"].Properties["document_id"].Nullable = true // their type is said by an alias, which knows no pointers
	schemas["EventCreated"].Properties["id"].Nullable = true
	s.api.OpenAPI().Tags = []*huma.Tag{
		{Name: "Events", Description: "What agents did."}, {Name: "Escalations", Description: "What agents handed to people."}, {Name: "Evidence", Description: "Proofs for strangers."},
		{Name: "Law", Description: "Erasure, holds and retention."}, {Name: "Knowledge base", Description: "Documents."}, {Name: "Search", Description: "Passages that answer questions."}, {Name: "Access", Description: "Who may do what."},
	}
}

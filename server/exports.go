package server

import (
	"context"

	"github.com/konstruct/konstruct/access"
)

// CreateExportRequest is the input of an export: which events, and in which format.
type CreateExportRequest struct {
	Since    string     `json:"since,omitempty" format:"date-time"`
	Until    string     `json:"until,omitempty" format:"date-time"`
	Agent    string     `json:"agent_id,omitempty" format:"uuid"`
	User     *string    `json:"user_id,omitempty" maxLength:"1024"`
	Action   *string    `json:"action_type,omitempty" maxLength:"1024"`
	Metadata jsonObject `json:"metadata,omitempty" doc:"Contained in the events' metadata"`
	Format   string     `json:"format" enum:"jsonl,csv,parquet,ocsf,cloudevents" doc:"Of the file"`
}

// createExport creates the task of an export.
func (s *Server) createExport(ctx context.Context, w access.Principal,
	in *struct{ Body CreateExportRequest }) (*Created[Task], error) {
	b := in.Body
	return s.createTask(ctx, w, kindExport, CreateTaskRequest{Since: b.Since, Until: b.Until, Agent: b.Agent,
		User: b.User, Action: b.Action, Metadata: b.Metadata, Format: b.Format})
}

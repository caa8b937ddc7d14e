package server

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"github.com/konstruct/konstruct/access"
)

// ToolRules are a tenant's rules on calls of tools.
type ToolRules struct {
	TenantID uuid.UUID    `json:"tenant_id"`
	Tools    []jsonObject `json:"tools" doc:"The rules in order, as the operator's policy has them (docs/policy.md)"`
}

// toolRules registers the operation by which the MCP proxy and the hook learn their rules.
func (s *Server) toolRules() {
	register(s, huma.Operation{OperationID: "getToolRules", Method: "GET", Path: "/v1/tool-rules",
		Summary: "Get the rules on calls of tools", Tags: []string{"Events"},
		Description: "The operator's policy has them. The program beside the agent applies them before a tool runs."},
		access.EventsWrite,
		func(ctx context.Context, w access.Principal, in *IfNoneMatch) (*Cacheable[ToolRules], error) {
			rules := ToolRules{TenantID: w.Tenant, Tools: []jsonObject{}}
			for _, r := range s.tenant(w).ToolRules().Rules() {
				raw, err := json.Marshal(r)
				if err != nil {
					return nil, fmt.Errorf("encode a rule on tools: %w", err)
				}
				rules.Tools = append(rules.Tools, raw)
			}
			raw, err := json.Marshal(rules)
			if err != nil {
				return nil, fmt.Errorf("encode the rules on tools: %w", err)
			}
			sum := sha256.Sum256(raw)
			etag := fmt.Sprintf(`"%x"`, sum[:16])
			if err := in.check(etag); err != nil {
				return nil, err
			}
			return &Cacheable[ToolRules]{etag, rules}, nil
		})
}

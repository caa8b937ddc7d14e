package export

import (
	"encoding/json"

	"github.com/google/uuid"

	"github.com/konstruct/konstruct/audit"
)

// The OCSF class of events: API Activity, with the ai_operation profile (https://schema.ocsf.io).
const (
	ocsfVersion = "1.8.0" // the first version with the profile
	ocsfClass   = 6003
	ocsfRead    = 2
	ocsfOther   = 99
)

// genAI are the OpenTelemetry attributes that have a field in OCSF.
type genAI struct {
	Model        string `json:"gen_ai.request.model"`
	Response     string `json:"gen_ai.response.model"`
	Provider     string `json:"gen_ai.provider.name"`
	Operation    string `json:"gen_ai.operation.name"`
	Tool         string `json:"gen_ai.tool.name"`
	Conversation string `json:"gen_ai.conversation.id"`
	Error        string `json:"error.type"`
	Input        int64  `json:"gen_ai.usage.input_tokens"`
	Output       int64  `json:"gen_ai.usage.output_tokens"`
}

// object is a JSON object; set omits empty values.
type object map[string]any

func (o object) set(key string, v any) {
	switch v := v.(type) {
	case string:
		if v == "" {
			return
		}
	case int64:
		if v == 0 {
			return
		}
	}
	o[key] = v
}

// ocsf returns an event as OCSF's API Activity. Content without a field in OCSF is under unmapped.
func ocsf(tenant uuid.UUID, e *audit.StoredEvent) any {
	g := genAIAttributes(e.Metadata)
	activity, role := ocsfOther, 4 // ai_role_id: agent
	switch e.Action {
	case audit.ActionLLMCall:
		role = 2 // assistant
	case audit.ActionToolCall:
		role = 3 // tool
	case audit.ActionRetrieval:
		activity, role = ocsfRead, 6 // retriever
	}
	agent := "unknown"
	if e.AgentID != nil {
		agent = e.AgentID.String()
	}
	operation := g.Operation
	if operation == "" {
		operation = e.Action
	}
	service := g.Tool
	if service == "" {
		service = g.Model
	}
	if service == "" {
		service = e.Action
	}
	meta := object{"version": ocsfVersion, "product": object{"name": "Konstruct", "vendor_name": "Konstruct"},
		"profiles": []string{"ai_operation"}, "uid": e.ID, "tenant_uid": tenant}
	meta.set("correlation_uid", g.Conversation)
	if e.RecordedAt != nil {
		meta["logged_time"] = e.RecordedAt.UnixMilli()
	}
	actor := object{"app_uid": agent}
	if u := cellText(e.UserID); u != "" {
		actor["user"] = object{"uid": u}
	}
	message := object{"ai_role_id": role, "service": object{"name": service}}
	message.set("uid", g.Conversation)
	message.set("prompt_tokens", g.Input)
	message.set("completion_tokens", g.Output)
	message.set("total_tokens", g.Input+g.Output)
	out := object{
		"activity_id": activity, "activity_name": e.Action, "category_uid": ocsfClass / 1000, "class_uid": ocsfClass,
		"class_name": "API Activity", "type_uid": ocsfClass*100 + activity,
		"severity_id": 1, "status_id": 1, "time": e.CreatedAt.UnixMilli(), "message": e.Action, "metadata": meta,
		"actor": actor, "api": object{"operation": operation, "service": object{"name": service}},
		"src_endpoint": object{"uid": agent, "svc_name": "agent"}, "message_context": message,
	}
	if g.Error != "" {
		out["status_id"], out["status_code"] = 2, g.Error
	}
	if g.Model != "" {
		model := object{"name": g.Model, "ai_provider": g.Provider}
		if g.Provider == "" {
			model["ai_provider"] = "unknown"
		}
		model.set("version", g.Response)
		out["ai_model"] = model
	}
	unmapped := object{"metadata": e.Metadata}
	unmapped.set("input_summary", cellText(e.Input))
	unmapped.set("output_summary", cellText(e.Output))
	unmapped.set("leaf_hash", e.LeafHash)
	if e.LatencyMS != nil {
		unmapped["latency_ms"] = *e.LatencyMS
	}
	if len(e.Erased) > 0 {
		unmapped["erased"] = e.Erased
	}
	out["unmapped"] = unmapped
	return out
}

// genAIAttributes reads the attributes; it ignores those of another type.
func genAIAttributes(metadata json.RawMessage) (g genAI) {
	if json.Unmarshal(metadata, &g) == nil {
		return g
	}
	var all map[string]json.RawMessage
	if json.Unmarshal(metadata, &all) != nil {
		return genAI{}
	}
	g = genAI{}
	for key, to := range map[string]any{"gen_ai.request.model": &g.Model, "gen_ai.response.model": &g.Response,
		"gen_ai.provider.name": &g.Provider, "gen_ai.operation.name": &g.Operation, "gen_ai.tool.name": &g.Tool,
		"gen_ai.conversation.id": &g.Conversation, "error.type": &g.Error, "gen_ai.usage.input_tokens": &g.Input,
		"gen_ai.usage.output_tokens": &g.Output} {
		_ = json.Unmarshal(all[key], to)
	}
	return g
}

// cloudEvent returns an event as a CloudEvent 1.0 in structured JSON (https://cloudevents.io). data is the event as in
// JSON Lines.
func cloudEvent(tenant uuid.UUID, e *audit.StoredEvent) any {
	plain := *e
	plain.Cursor = ""
	out := object{"specversion": "1.0", "id": e.ID, "source": "/tenants/" + tenant.String(),
		"type": "konstruct.audit." + e.Action, "time": e.CreatedAt, "datacontenttype": "application/json",
		"data": plain}
	if e.AgentID != nil {
		out["source"] = "/tenants/" + tenant.String() + "/agents/" + e.AgentID.String()
	}
	out.set("subject", cellText(e.UserID))
	out.set("leafhash", e.LeafHash)
	return out
}

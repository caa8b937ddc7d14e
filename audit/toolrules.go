package audit

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/google/uuid"

	"github.com/konstruct/konstruct/redact"
	"github.com/konstruct/konstruct/toolrule"
)

// MetadataToolServer is the metadata name of the server whose tool was called: an MCP server, or the agent's program
// for its own tools. OpenTelemetry has no name for it.
const MetadataToolServer = "tool_server"

// Tools returns a tenant's rules on calls of tools; nil allows all.
func (p *Policy) Tools(tenant uuid.UUID) *toolrule.Set { return p.tenantRules(tenant).tools }

// ToolRules returns the policy's rules on a tenant's calls of tools; nil allows all.
func (t *Trail) ToolRules(tenant uuid.UUID) *toolrule.Set { return t.policy.Tools(tenant) }

// compileTools compiles the rules on calls of tools.
func (t TenantPolicy) compileTools(r *rules, at string, key []byte) (err error) {
	if len(t.Tools) == 0 {
		return nil
	}
	if r.tools, err = toolrule.New(t.Tools); err != nil {
		return fmt.Errorf("policy: %s.%w", at, err)
	}
	var all []redact.Rule
	for _, rule := range t.Tools {
		all = append(all, rule.Redact...)
	}
	if len(all) == 0 {
		return nil
	}
	if n := len(all) + len(t.Redact); n > MaxPolicyRules {
		return fmt.Errorf("policy: %s.tools: %d redaction rules with those of %s.redact, the limit is %d", at, n, at,
			MaxPolicyRules)
	}
	r.key = bytes.Clone(key)
	_, err = redact.New(at+".tools", all, key, checkMetadata) // the key is long enough
	return err
}

// redactor returns what redacts an event: the tenant's rules, and for an event about a call of a tool also the rules on
// that tool. It is nil if nothing does.
func (r rules) redactor(e Event) (*redact.Redactor, error) {
	if !r.tools.Redacts() || !bytes.Contains(e.Metadata, []byte("gen_ai")) && bytes.IndexByte(e.Metadata, '\\') < 0 {
		return r.redact, nil
	}
	var about struct {
		Tool   string `json:"gen_ai.tool.name"`
		Server string `json:"tool_server"`
	}
	if err := json.Unmarshal(e.Metadata, &about); err != nil || about.Tool == "" {
		return r.redact, nil // no JSON is refused later
	}
	// A cut summary is no JSON: then rules with conditions on arguments match.
	d := r.tools.Decide(toolrule.Call{Server: about.Server, Tool: about.Tool, Arguments: json.RawMessage(e.Input)})
	if len(d.Redact) == 0 {
		return r.redact, nil
	}
	return r.tools.Redactor(d, r.source.Redact, r.key, checkMetadata)
}

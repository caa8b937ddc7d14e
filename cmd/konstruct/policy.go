package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"github.com/google/uuid"

	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/redact"
)

// policy reads the policy and the key that are set; nil where there is none.
func (a *app) policy() (*audit.Policy, error) {
	if a.AuditPolicy == "" {
		return nil, nil
	}
	raw, err := readSmallFile(a.AuditPolicy, audit.MaxPolicy)
	if err != nil {
		return nil, coded{fmt.Errorf("KONSTRUCT_AUDIT_POLICY: %w", err), exitUsage}
	}
	var key []byte
	if a.RedactKeyFile != "" {
		if key, err = readSmallFile(a.RedactKeyFile, maxKey); err != nil {
			return nil, coded{fmt.Errorf("KONSTRUCT_REDACT_KEY_FILE: %w", err), exitUsage}
		}
	}
	p, err := audit.ParsePolicy(raw, key)
	if err != nil {
		if len(key) < redact.MinKey {
			err = fmt.Errorf("%w (KONSTRUCT_REDACT_KEY_FILE; make one with: head -c 32 /dev/urandom > FILE)", err)
		}
		return nil, coded{fmt.Errorf("%s: %w", a.AuditPolicy, err), exitUsage}
	}
	return p, nil
}

// maxKey is how many bytes a key file may have.
const maxKey = 4 << 10

// readSmallFile reads a regular file of at most limit bytes.
func readSmallFile(path string, limit int64) ([]byte, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if st.Size() > limit || !st.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is no file of at most %d bytes", path, limit)
	}
	return os.ReadFile(path)
}

type policyCmd struct{}

// Help is shown by --help.
func (policyCmd) Help() string {
	return "Reads and checks the policy file; docs/policy.md says what it may hold.\n\nExample:\n\n  konstruct audit " +
		"policy --audit-policy policy.json --redact-key-file redact.key"
}

// Run prints the policy in force.
func (policyCmd) Run(a *app) error {
	p, err := a.policy()
	if err != nil {
		return err
	}
	type line struct {
		Tenant string             `json:"tenant"`
		Policy audit.TenantPolicy `json:"policy"`
	}
	lines := []line{{"default", p.Default()}}
	for _, id := range p.Tenants() {
		lines = append(lines, line{id.String(), p.Tenant(id)})
	}
	header := []string{"TENANT", "WHEN UNWRITABLE", "WAIT", "REDACTS", "MODELS"}
	return printTable(a, lines, header, func(l line) []string {
		var rules []string
		for _, r := range l.Policy.Redact {
			name := r.Name
			if name == "" {
				name = r.Detect
			}
			rules = append(rules, name)
		}
		unwritable := l.Policy.WhenUnwritable
		if unwritable == "" {
			unwritable = "fail"
		}
		return []string{l.Tenant, unwritable, l.Policy.Wait, strings.Join(rules, ", "), modelRules(l.Policy.Models)}
	})
}

// modelRules says which models a tenant may call, and its budgets.
func modelRules(p *audit.ModelPolicy) string {
	if p == nil {
		return "all"
	}
	all := "all"
	if len(p.Allow) > 0 {
		all = strings.Join(p.Allow, ", ")
	}
	if p.TokensPerDay > 0 {
		all += fmt.Sprintf("; %d tokens a day", p.TokensPerDay)
	}
	if p.CostPerDay > 0 {
		all += fmt.Sprintf("; %g a day", p.CostPerDay)
	}
	return all
}

type redactCmd struct {
	tenantFlag
	Text     string `arg:"" help:"The text; - reads it from standard input."`
	Metadata string `help:"A JSON object." placeholder:"JSON"`
}

// Help is shown by --help.
func (redactCmd) Help() string {
	return "Stores nothing.\n\nExample:\n\n  konstruct audit redact --tenant $T --audit-policy policy.json " +
		"--redact-key-file redact.key 'mail ada@example.org'"
}

// Run prints what would be stored.
func (c redactCmd) Run(a *app) error {
	if c.Tenant == uuid.Nil {
		return coded{fmt.Errorf("--tenant: the zero UUID is no tenant"), exitUsage}
	}
	text, err := readInput(c.Text)
	if err != nil {
		return err
	}
	p, err := a.policy()
	if err != nil {
		return err
	}
	if p == nil {
		return coded{fmt.Errorf("there is no policy: set KONSTRUCT_AUDIT_POLICY"), exitUsage}
	}
	e := audit.Event{Input: text}
	if c.Metadata != "" {
		e.Metadata = json.RawMessage(c.Metadata)
	}
	if e, err = p.Redact(c.Tenant, e); err != nil {
		return err
	}
	if e.Metadata == nil {
		e.Metadata = json.RawMessage("{}")
	}
	if a.JSON {
		return a.json(struct {
			Input    string          `json:"input_summary"`
			Metadata json.RawMessage `json:"metadata"`
		}{e.Input, e.Metadata})
	}
	_, err = fmt.Fprintf(a.out, "%s\n%s\n", printable(e.Input), a.dim(string(e.Metadata)))
	return err
}

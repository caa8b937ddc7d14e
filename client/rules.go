package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"time"

	"github.com/google/uuid"

	"github.com/konstruct/konstruct/redact"
	"github.com/konstruct/konstruct/toolrule"
)

// cachedRules are the service's rules as they are kept on disk.
type cachedRules struct {
	ETag     string          `json:"etag"`
	TenantID uuid.UUID       `json:"tenant_id"`
	Tools    []toolrule.Rule `json:"tools"`
}

// ruleSets are the rules in force.
type ruleSets struct {
	tenant   uuid.UUID
	service  *toolrule.Set
	local    *toolrule.Set
	modified time.Time // of the file of the service's rules
	problem  error     // why some rules are not known
}

// Refresh fetches the service's rules and keeps them on disk for when the service is unavailable.
func (c *Client) Refresh(ctx context.Context) error {
	within, cancel := context.WithTimeout(ctx, rulesTime)
	defer cancel()
	before, err := c.readRules()
	var headers []string
	if err == nil && before.ETag != "" {
		headers = []string{"If-None-Match", before.ETag}
	}
	var got cachedRules
	status, etag, err := c.do(within, http.MethodGet, "/v1/tool-rules", nil, &got, headers...)
	if err != nil || status == http.StatusNotModified {
		return err
	}
	if _, err := toolrule.New(got.Tools); err != nil {
		return fmt.Errorf("the service's rules: %w", err)
	}
	got.ETag = etag
	raw, err := json.Marshal(got)
	if err != nil {
		return fmt.Errorf("keep the rules: %w", err)
	}
	return c.spool.write(rulesName, raw)
}

func (c *Client) readRules() (r cachedRules, err error) {
	raw, err := os.ReadFile(c.spool.path(rulesName))
	if err == nil {
		err = json.Unmarshal(raw, &r)
	}
	return r, err
}

// loadRules returns the rules in force. If the service's were never fetched, it fetches them now.
func (c *Client) loadRules(ctx context.Context) *ruleSets {
	c.mu.Lock()
	defer c.mu.Unlock()
	st, err := os.Stat(c.spool.path(rulesName))
	if c.rules != nil && c.rules.problem == nil && (c.server == nil || err == nil &&
		st.ModTime().Equal(c.rules.modified)) {
		return c.rules
	}
	sets := &ruleSets{}
	if sets.local, err = localRules(c.c.RulesFile); err != nil {
		sets.problem = err
	}
	if c.server != nil {
		sets.problem = errors.Join(sets.problem, c.serviceRules(ctx, sets))
	}
	c.rules = sets
	return sets
}

// Restricts reports whether rules in force deny or ask, for any call.
func (c *Client) Restricts(ctx context.Context) bool {
	sets := c.loadRules(ctx)
	for _, set := range []*toolrule.Set{sets.local, sets.service} {
		for _, r := range set.Rules() {
			if r.Action == toolrule.Deny || r.Action == toolrule.Ask {
				return true
			}
		}
	}
	return false
}

// CheckRules reports what is wrong with a file of rules: nil for none. A program that starts once checks it then, so
// that a slip does not deny every call later.
func CheckRules(path string) error {
	_, err := localRules(path)
	return err
}

func localRules(path string) (*toolrule.Set, error) {
	if path == "" {
		return nil, nil
	}
	st, err := os.Stat(path)
	if err == nil && (!st.Mode().IsRegular() || st.Size() > toolrule.MaxFile) {
		err = fmt.Errorf("%s is no file of at most %d bytes", path, toolrule.MaxFile)
	}
	var raw []byte
	if err == nil {
		raw, err = os.ReadFile(path)
	}
	if err != nil {
		return nil, fmt.Errorf("read the rules: %w", err)
	}
	rules, err := toolrule.Parse(raw)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	set, err := toolrule.New(rules)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return set, nil
}

// serviceRules reads the service's rules from the disk, or fetches them if they never were.
func (c *Client) serviceRules(ctx context.Context, sets *ruleSets) error {
	st, err := os.Stat(c.spool.path(rulesName))
	if errors.Is(err, fs.ErrNotExist) {
		state := c.spool.readState()
		if c.clock().Before(state.Next) {
			return fmt.Errorf("the service's rules were never fetched: %s", state.Problem)
		}
		if err := c.Refresh(ctx); err != nil {
			c.spool.remember(err, c.clock())
			return fmt.Errorf("the service's rules were never fetched: %w", err)
		}
		st, err = os.Stat(c.spool.path(rulesName))
	}
	var kept cachedRules
	if err == nil {
		kept, err = c.readRules()
	}
	if err == nil {
		sets.service, err = toolrule.New(kept.Tools)
	}
	if err != nil {
		return fmt.Errorf("the service's rules: %w", err)
	}
	sets.tenant, sets.modified = kept.TenantID, st.ModTime()
	return nil
}

// strictness orders actions: of two sets of rules, the stricter one decides.
var strictness = map[string]int{toolrule.Allow: 0, toolrule.Ask: 1, toolrule.Deny: 2}

// decide returns the stricter decision of the service's and the local rules, and both of them.
func (r *ruleSets) decide(call toolrule.Call) (d toolrule.Decision, both [2]toolrule.Decision) {
	both = [2]toolrule.Decision{r.service.Decide(call), r.local.Decide(call)}
	d = both[0]
	if strictness[both[1].Action] > strictness[d.Action] || d.Rule < 0 && both[1].Rule >= 0 {
		d = both[1]
	}
	return d, both
}

// redactEvent applies the rules that redact, if this machine has the key.
func (c *Client) redactEvent(r *ruleSets, both [2]toolrule.Decision, e Event) (Event, error) {
	if len(c.c.RedactKey) == 0 {
		return e, nil
	}
	var noted []any
	for i, set := range []*toolrule.Set{r.service, r.local} {
		by, err := set.Redactor(both[i], nil, c.c.RedactKey, func(json.RawMessage) error { return nil })
		if err != nil || by == nil {
			if err != nil {
				return e, err
			}
			continue
		}
		raw, err := json.Marshal(e.Metadata)
		if err != nil {
			return e, fmt.Errorf("redact an event: %w", err)
		}
		f, err := by.Apply(r.tenant, redact.Fields{UserID: e.UserID, Input: e.Input, Output: e.Output, Metadata: raw})
		if err != nil {
			return e, fmt.Errorf("redact an event: %w", err)
		}
		e.UserID, e.Input, e.Output, e.Metadata = f.UserID, f.Input, f.Output, nil
		if err := json.Unmarshal(f.Metadata, &e.Metadata); err != nil {
			return e, fmt.Errorf("redact an event: %w", err)
		}
		if list, ok := e.Metadata["konstruct.redactions"].([]any); ok { // a name that only the service may write
			noted = append(noted, list...)
			delete(e.Metadata, "konstruct.redactions")
		}
	}
	if len(noted) > 0 {
		e.Metadata[metadataRedactions] = noted
	}
	return e, nil
}

// Decide returns what becomes of a call, by the stricter of the service's rules and the local ones. With an error some
// rules are not known, and the decision is that of the others. It asks nobody.
func (c *Client) Decide(ctx context.Context, call toolrule.Call) (toolrule.Decision, error) {
	sets := c.loadRules(ctx)
	d, _ := sets.decide(call)
	return d, sets.problem
}

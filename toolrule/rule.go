// Package toolrule decides what becomes of a call of a tool: allow, deny, ask a person, or record it redacted. Its
// rules name a server, a tool and arguments. It knows no tenants, no events and no database.
package toolrule

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/konstruct/konstruct/redact"
	"github.com/konstruct/konstruct/strictjson"
)

// Limits on rules and on the arguments that they are compared with.
const (
	MaxRules      = 200
	MaxConditions = 16      // conditions on arguments of one rule
	MaxRedact     = 20      // redaction rules of one rule
	MaxGlob       = 1 << 10 // bytes of a glob or a pointer
	MaxPattern    = 4 << 10 // bytes of a regular expression
	MaxText       = 1 << 10 // bytes of a reason or a recipient
	MaxFile       = 1 << 20 // bytes of a file of rules
	MaxArguments  = 1 << 20 // bytes of a call's arguments that are read; longer ones are unreadable
	MinWithin     = time.Second
	MaxWithin     = 24 * time.Hour
	DefaultWithin = 5 * time.Minute
	maxRedactors  = 64 // compiled combinations of redaction rules that a Set keeps
)

// What a rule does with a call.
const (
	Allow  = "allow"  // the call passes
	Deny   = "deny"   // the call is refused
	Ask    = "ask"    // a person is asked, and the call waits for the answer
	Redact = "redact" // what is recorded of the call is redacted; the call itself is unchanged
)

// Whom Ask asks.
const (
	ViaEscalation = "escalation" // a person, by an escalation on the trail
	ViaPrompt     = "prompt"     // the agent's own permission prompt; where there is none, an escalation
)

// Rule is one rule. A call matches it if the server, the tool and all conditions on arguments match.
type Rule struct {
	// Server is a glob on the MCP server's name, or on the agent program's name for its own tools ("claude-code",
	// "codex", "gemini-cli"). Empty matches all.
	Server string `json:"server,omitempty"`
	// Tool is a glob on the tool's name. Empty matches all.
	Tool string `json:"tool,omitempty"`
	// Arguments are conditions by JSON pointer (RFC 6901) into the arguments, in which * is every name or element.
	Arguments map[string]Condition `json:"arguments,omitempty"`
	// Action is Allow, Deny, Ask or Redact.
	Action string `json:"action"`
	// To is whom Ask asks: a person, team or queue.
	To string `json:"to,omitempty"`
	// Via is ViaEscalation (the default) or ViaPrompt.
	Via string `json:"via,omitempty"`
	// Within is how long Ask waits at most, in Go's duration syntax, between MinWithin and MaxWithin. Empty is
	// DefaultWithin.
	Within string `json:"within,omitempty"`
	// Otherwise is what becomes of the call when nobody answers in time or nobody can be asked: Deny (the default) or
	// Allow.
	Otherwise string `json:"otherwise,omitempty"`
	// Reason is what the agent is told when it is denied, and the person when he is asked.
	Reason string `json:"reason,omitempty"`
	// Redact are the redaction rules of an action Redact.
	Redact []redact.Rule `json:"redact,omitempty"`
}

// Condition is a condition on a value: a string as it is, anything else as compact JSON with sorted names. In JSON it
// is a glob, or an object with a pattern.
type Condition struct {
	// Glob matches the whole value: * is any text, ? is one character, \ takes the next character literally.
	Glob string
	// Pattern is a regular expression in RE2's syntax that matches anywhere in the value. If set, Glob is not used.
	Pattern string
}

// UnmarshalJSON reads "a glob" or {"pattern": "a regular expression"}.
func (c *Condition) UnmarshalJSON(raw []byte) error {
	*c = Condition{}
	if len(raw) > 0 && raw[0] == '"' {
		return json.Unmarshal(raw, &c.Glob)
	}
	var object struct {
		Pattern *string `json:"pattern"`
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(&object); err != nil || object.Pattern == nil || *object.Pattern == "" {
		return fmt.Errorf(`arguments: %.80s is neither a glob, as "*.env", nor {"pattern": "…"}`, raw)
	}
	c.Pattern = *object.Pattern
	return nil
}

// MarshalJSON writes what UnmarshalJSON reads.
func (c Condition) MarshalJSON() ([]byte, error) {
	if c.Pattern != "" {
		return json.Marshal(map[string]string{"pattern": c.Pattern})
	}
	return json.Marshal(c.Glob)
}

// Parse reads a file of rules: {"tools": [rule, …]}. Fields that it doesn't know are errors, since a rule that is
// misread may let a call pass.
func Parse(raw []byte) ([]Rule, error) {
	if len(raw) > MaxFile {
		return nil, fmt.Errorf("tools: the file is %d bytes long, the limit is %d", len(raw), MaxFile)
	}
	if err := strictjson.CheckDuplicates(raw); err != nil {
		return nil, fmt.Errorf("tools: %w", err)
	}
	var file struct {
		Tools []Rule `json:"tools"`
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(&file); err != nil {
		return nil, fmt.Errorf("tools: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("tools: there is data after the JSON object")
	}
	return file.Tools, nil
}

// compiled is a rule that is ready to be compared.
type compiled struct {
	Rule
	server, tool *glob // nil matches all
	conditions   []condition
	within       time.Duration
}

// condition is a compiled condition.
type condition struct {
	pointer string
	path    []string
	glob    *glob
	re      *regexp.Regexp
}

func (c condition) match(value string) bool {
	if c.re != nil {
		return c.re.MatchString(value)
	}
	return c.glob.match(value)
}

// compile checks a rule. Its errors begin with the field.
func (r Rule) compile() (c compiled, err error) {
	c.Rule = r
	switch r.Action {
	case Allow, Deny, Ask, Redact:
	default:
		return c, fmt.Errorf("action: %.40q is none of allow, deny, ask, redact", r.Action)
	}
	if c.server, err = compileName("server", r.Server); err != nil {
		return c, err
	}
	if c.tool, err = compileName("tool", r.Tool); err != nil {
		return c, err
	}
	if err = r.checkAsk(); err != nil {
		return c, err
	}
	c.within = DefaultWithin
	if r.Within != "" {
		c.within, err = time.ParseDuration(r.Within)
		if err != nil || c.within < MinWithin || c.within > MaxWithin {
			return c, fmt.Errorf(`within: %.40q is no duration between "1s" and "24h"`, r.Within)
		}
	}
	if (r.Action == Redact) != (len(r.Redact) > 0) {
		return c, errors.New(`redact: a rule with the action "redact" has redaction rules, and no other rule has`)
	}
	if len(r.Redact) > MaxRedact {
		return c, fmt.Errorf("redact: %d redaction rules, the limit is %d", len(r.Redact), MaxRedact)
	}
	return c, c.compileConditions()
}

// checkAsk checks the fields that say who is asked and what is said.
func (r Rule) checkAsk() error {
	for _, f := range []struct{ name, value string }{{"to", r.To}, {"via", r.Via}, {"within", r.Within},
		{"otherwise", r.Otherwise}} {
		if f.value != "" && r.Action != Ask {
			return fmt.Errorf(`%s: only a rule with the action "ask" has it`, f.name)
		}
	}
	switch {
	case r.Via != "" && r.Via != ViaEscalation && r.Via != ViaPrompt:
		return fmt.Errorf(`via: %.40q is neither "escalation" nor "prompt"`, r.Via)
	case r.Otherwise != "" && r.Otherwise != Deny && r.Otherwise != Allow:
		return fmt.Errorf(`otherwise: %.40q is neither "deny" nor "allow"`, r.Otherwise)
	}
	for _, f := range []struct{ name, value string }{{"to", r.To}, {"reason", r.Reason}} {
		switch {
		case len(f.value) > MaxText:
			return fmt.Errorf("%s: %d bytes long, the limit is %d", f.name, len(f.value), MaxText)
		case !utf8.ValidString(f.value) || strings.Contains(f.value, "\x00"):
			return fmt.Errorf("%s: it is not UTF-8 without NUL", f.name)
		}
	}
	return nil
}

func (c *compiled) compileConditions() error {
	if len(c.Arguments) > MaxConditions {
		return fmt.Errorf("arguments: %d conditions, the limit is %d", len(c.Arguments), MaxConditions)
	}
	for pointer, want := range c.Arguments {
		one := condition{pointer: pointer}
		switch {
		case pointer != "" && pointer[0] != '/':
			return fmt.Errorf(`arguments: %.40q is no JSON pointer: it begins with /, as "/path"`, pointer)
		case len(pointer) > MaxGlob:
			return fmt.Errorf("arguments: a pointer of %d bytes, the limit is %d", len(pointer), MaxGlob)
		case pointer != "":
			for part := range strings.SplitSeq(pointer[1:], "/") {
				one.path = append(one.path, strings.NewReplacer("~1", "/", "~0", "~").Replace(part))
			}
		}
		var err error
		switch {
		case want.Pattern == "":
			one.glob, err = compileGlob(want.Glob)
		case len(want.Pattern) > MaxPattern:
			err = fmt.Errorf("%d bytes long, the limit is %d", len(want.Pattern), MaxPattern)
		default:
			one.re, err = regexp.Compile(want.Pattern)
		}
		if err != nil {
			return fmt.Errorf("arguments[%.40q]: %w", pointer, err)
		}
		c.conditions = append(c.conditions, one)
	}
	return nil
}

func compileName(field, pattern string) (*glob, error) {
	if pattern == "" {
		return nil, nil
	}
	g, err := compileGlob(pattern)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", field, err)
	}
	return g, nil
}

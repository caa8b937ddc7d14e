package toolrule

import (
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/konstruct/konstruct/redact"
)

// Set is a compiled list of rules. A nil Set allows everything. It is safe for concurrent use.
type Set struct {
	rules   []compiled
	redacts bool

	mu        sync.Mutex
	redactors map[string]*redact.Redactor // by the rules that matched
}

// New compiles rules. Its errors name the place, as tools[3].within.
func New(rules []Rule) (*Set, error) {
	if len(rules) > MaxRules {
		return nil, fmt.Errorf("tools: %d rules, the limit is %d", len(rules), MaxRules)
	}
	s := &Set{redactors: map[string]*redact.Redactor{}}
	for i, r := range rules {
		c, err := r.compile()
		if err != nil {
			return nil, fmt.Errorf("tools[%d].%w", i, err)
		}
		if err := redact.Check(r.Redact); err != nil {
			return nil, fmt.Errorf("tools[%d].redact%w", i, err)
		}
		s.rules, s.redacts = append(s.rules, c), s.redacts || r.Action == Redact
	}
	return s, nil
}

// Rules returns the rules that the set was made of.
func (s *Set) Rules() []Rule {
	if s == nil {
		return nil
	}
	rules := make([]Rule, len(s.rules))
	for i, r := range s.rules {
		rules[i] = r.Rule
	}
	return rules
}

// Redacts reports whether some rule redacts.
func (s *Set) Redacts() bool { return s != nil && s.redacts }

// Call is a call of a tool that is to be decided.
type Call struct {
	Server    string          // the MCP server's name, or the agent program's for its own tools
	Tool      string          // the tool's name, without the server
	Arguments json.RawMessage // a JSON object as it was sent; empty is none
}

// Decision is what becomes of a call.
type Decision struct {
	Action    string        // Allow, Deny or Ask
	Rule      int           // index of the rule that decided; -1 if none did, and the call is allowed
	Reason    string        // what is said: the rule's reason, or why it matched
	To        string        // whom Ask asks
	Via       string        // of Ask: ViaEscalation or ViaPrompt
	Within    time.Duration // how long Ask waits at most
	Otherwise string        // of Ask: Deny or Allow, when nobody answers
	// Unreadable says why the arguments could not be read; empty if they could, or if no rule asked.
	Unreadable string
	// Redact are the indexes of the rules that redact what is recorded of this call.
	Redact []int
}

// Decide returns what becomes of a call: the first rule that matches decides, and all rules that redact and match add
// up. Without a match the call is allowed.
//
// A rule that forbids is never escaped by how the arguments are written. Arguments that can't be read (no JSON, a name
// twice, too long, too deep, not UTF-8, not an object) match the conditions of Deny, Ask and Redact, and don't match
// those of Allow. Names in pointers are compared in any case for the former and exactly for the latter; * in a pointer
// needs one value that matches for the former and all for the latter.
func (s *Set) Decide(c Call) Decision {
	d := Decision{Action: Allow, Rule: -1}
	if s == nil {
		return d
	}
	args := arguments{raw: c.Arguments}
	for i := range s.rules {
		r := &s.rules[i]
		if d.Rule >= 0 && r.Action != Redact || r.server != nil && !r.server.match(c.Server) ||
			r.tool != nil && !r.tool.match(c.Tool) || !args.satisfy(r) {
			continue
		}
		if r.Action == Redact {
			d.Redact = append(d.Redact, i)
			continue
		}
		d.Action, d.Rule, d.Reason = r.Action, i, r.Reason
		if r.Action == Ask {
			d.To, d.Via, d.Within, d.Otherwise = r.To, r.Via, r.within, r.Otherwise
			if d.Via == "" {
				d.Via = ViaEscalation
			}
			if d.Otherwise == "" {
				d.Otherwise = Deny
			}
		}
	}
	d.Unreadable = args.unreadable
	if d.Reason == "" && d.Action != Allow {
		if d.Reason = defaultReasons[d.Action]; d.Unreadable != "" {
			d.Reason += "; its arguments can't be read: " + d.Unreadable
		}
	}
	return d
}

// defaultReasons are what is said where a rule has no reason.
var defaultReasons = map[string]string{Deny: "a rule denies this tool call", Ask: "a rule asks a person first"}

// Redactor returns the redactor of a decision's rules, after base, which are the tenant's own; nil if there is nothing
// to redact. base, key and check must be the same in all calls of one Set; they are redact.New's.
func (s *Set) Redactor(d Decision, base []redact.Rule, key []byte,
	check func(json.RawMessage) error) (*redact.Redactor, error) {
	if s == nil || len(d.Redact) == 0 && len(base) == 0 {
		return nil, nil
	}
	name := fmt.Sprint(d.Redact)
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := s.redactors[name]; r != nil {
		return r, nil
	}
	rules := append([]redact.Rule(nil), base...)
	for _, i := range d.Redact {
		rules = append(rules, s.rules[i].Redact...)
	}
	r, err := redact.New("tools", rules, key, check)
	if err == nil && len(s.redactors) < maxRedactors {
		s.redactors[name] = r
	}
	return r, err
}

package toolrule

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/konstruct/konstruct/strictjson"
)

// arguments are a call's arguments, read when the first condition needs them.
type arguments struct {
	raw        json.RawMessage
	read       bool
	root       any
	unreadable string
	found      map[selection][]string
}

// selection names the values at a pointer.
type selection struct {
	pointer string
	exact   bool
}

// satisfy reports whether the arguments meet all conditions of a rule.
func (a *arguments) satisfy(r *compiled) bool {
	if len(r.conditions) == 0 {
		return true
	}
	a.parse()
	allows := r.Action == Allow
	for _, c := range r.conditions {
		if a.unreadable != "" {
			if allows {
				return false
			}
			continue
		}
		values, matched := a.values(c, allows), 0
		for _, v := range values {
			if c.match(v) {
				matched++
			}
		}
		if matched == 0 || allows && matched < len(values) {
			return false
		}
	}
	return true
}

// parse reads the arguments once.
func (a *arguments) parse() {
	if a.read {
		return
	}
	a.read, a.found = true, map[selection][]string{}
	raw := bytes.TrimSpace(a.raw)
	if len(raw) == 0 || string(raw) == "null" { // a call without arguments
		a.root = map[string]any{}
		return
	}
	switch {
	case len(raw) > MaxArguments:
		a.unreadable = fmt.Sprintf("they are %d bytes long, the limit is %d", len(raw), MaxArguments)
	case !json.Valid(raw):
		a.unreadable = "they are no JSON"
	case raw[0] != '{':
		a.unreadable = "they are no JSON object"
	}
	if a.unreadable != "" {
		return
	}
	if err := strictjson.CheckDuplicates(raw); err != nil { // too deep as well
		a.unreadable = err.Error()
		return
	}
	if at, what := strictjson.CheckStorable(raw); what != "" {
		a.unreadable = strings.TrimPrefix(at+": "+what, ": ")
		return
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	if err := d.Decode(&a.root); err != nil {
		a.unreadable = err.Error()
	}
}

// values returns the texts of the values that a condition's pointer selects.
func (a *arguments) values(c condition, exact bool) []string {
	name := selection{c.pointer, exact}
	if found, ok := a.found[name]; ok {
		return found
	}
	var found []string
	ambiguous := false
	selectValues(a.root, c.path, func(v any) { found = append(found, valueText(v)) }, func(other bool) {
		ambiguous = ambiguous || other
	})
	if exact && ambiguous { // a reader that ignores case might take the other value
		found = nil
	}
	a.found[name] = found
	return found
}

// selectValues calls found with each value below v that a path selects, its names in any case. It tells ambiguous
// whether a name in the arguments differs from the path's.
func selectValues(v any, path []string, found func(any), ambiguous func(bool)) {
	if len(path) == 0 {
		found(v)
		return
	}
	switch v := v.(type) {
	case map[string]any:
		for name, value := range v {
			if path[0] == "*" || strings.EqualFold(name, path[0]) {
				ambiguous(path[0] != "*" && name != path[0])
				selectValues(value, path[1:], found, ambiguous)
			}
		}
	case []any:
		at, err := strconv.Atoi(path[0])
		for i, value := range v {
			if path[0] == "*" || err == nil && i == at {
				selectValues(value, path[1:], found, ambiguous)
			}
		}
	}
}

// valueText returns a string as it is, and anything else as compact JSON with sorted names.
func valueText(v any) string {
	if s, ok := v.(string); ok {
		return s
	}
	raw, err := strictjson.Marshal(v)
	if err != nil {
		return "" // unreachable: v was decoded from JSON
	}
	return string(raw)
}

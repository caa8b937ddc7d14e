// Package redact redacts values in an event's fields before they are stored. Its rules are detectors (e-mail addresses,
// card numbers, secrets), patterns and paths; each value is replaced by a keyed mark. It knows only rules and text: no
// tenants' policies, no events, no database.
package redact

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/konstruct/konstruct/strictjson"
)

// Limits on rules.
const (
	MaxPattern = 4 << 10 // bytes of a regular expression
	MinKey     = 32      // least length in bytes of the key that hashes redacted values
)

// Rule selects values to redact. It has exactly one of Detect, Pattern and Path.
type Rule struct {
	// Name is used in the mark and in the event's metadata: 1 to 32 of a-z, 0-9, _ and -. Empty means the detector's
	// name.
	Name string `json:"name,omitempty"`
	// Detect is "email", "card" (payment card numbers that pass the Luhn check) or "secret" (keys and tokens with their
	// makers' prefixes).
	Detect string `json:"detect,omitempty"`
	// Pattern is a regular expression in RE2's syntax (https://golang.org/s/re2syntax). Its matches are redacted.
	Pattern string `json:"pattern,omitempty"`
	// Path selects whole values: a field of the event ("user_id", "input_summary", "output_summary"), or a JSON pointer
	// into the metadata (RFC 6901), in which * matches every key or element.
	Path string `json:"path,omitempty"`
	// In are the fields in which Detect and Pattern search: "user_id", "input_summary", "output_summary", "metadata".
	// Empty means all but user_id.
	In []string `json:"in,omitempty"`
}

// The fields in which a rule can search, as bits.
const (
	inUserID = 1 << iota
	inInput
	inOutput
	inMetadata
)

var fieldBits = map[string]int{"user_id": inUserID, "input_summary": inInput, "output_summary": inOutput,
	"metadata": inMetadata}

// redactionsKey is the metadata key that lists what was redacted.
const redactionsKey = "konstruct.redactions"

// Redactor has the compiled rules of one tenant.
type Redactor struct {
	key       []byte
	check     func(metadata json.RawMessage) error
	detectors []detector
	paths     []pathRule
	// plain is true if the metadata's JSON text can be searched without decoding it, when it has no escapes: all rules
	// are detectors, whose finds end at a quotation mark.
	plain bool
}

// span is a part of a text that is to be redacted.
type span struct {
	start, end int
	rule       *detector
}

// detector finds values in text.
type detector struct {
	name string
	in   int
	find func(text string, found func(start, end int))
	// group normalises a value before it is hashed, so that two spellings of it have the same mark.
	group func(value string) string
}

// pathRule redacts whole values.
type pathRule struct {
	name  string
	field int      // a column, or inMetadata
	path  []string // the pointer's parts
}

var ruleName = regexp.MustCompile(`^[a-z0-9_-]{1,32}$`)

// New compiles rules. Errors name the rule's place in the policy; at is the place of the list. key hashes redacted
// values. check validates metadata before it is decoded.
func New(at string, list []Rule, key []byte, check func(json.RawMessage) error) (*Redactor, error) {
	if len(key) < MinKey {
		return nil, fmt.Errorf("policy: %s: redaction needs a key of at least %d bytes, so that equal values stay "+
			"matchable and nobody can guess them: this one has %d", at, MinKey, len(key))
	}
	r := &Redactor{key: slices.Clone(key), check: check, plain: true}
	if err := r.addAll(list); err != nil {
		return nil, fmt.Errorf("policy: %s%w", at, err)
	}
	return r, nil
}

// Check checks rules as New does, without a key. Its errors begin with the rule's index and field, as [1].pattern.
func Check(list []Rule) error { return new(Redactor).addAll(list) }

func (r *Redactor) addAll(list []Rule) error {
	for i, rule := range list {
		if err := r.add(rule); err != nil {
			return fmt.Errorf("[%d].%w", i, err)
		}
	}
	return nil
}

func (r *Redactor) add(rule Rule) error {
	if (rule.Detect != "") == (rule.Pattern != "") && rule.Path == "" || rule.Path != "" &&
		rule.Detect+rule.Pattern != "" {
		return fmt.Errorf("detect: a rule has exactly one of detect, pattern and path")
	}
	if rule.Name == "" {
		rule.Name = rule.Detect
	}
	if !ruleName.MatchString(rule.Name) {
		return fmt.Errorf("name: %.40q is not 1 to 32 of a-z, 0-9, _ and -", rule.Name)
	}
	if rule.Path != "" {
		return r.addPath(rule)
	}
	f := detector{name: rule.Name, in: inInput | inOutput | inMetadata, group: func(v string) string { return v }}
	if len(rule.In) > 0 {
		f.in = 0
		for _, name := range rule.In {
			bit := fieldBits[name]
			if bit == 0 {
				return fmt.Errorf("in: %.40q is none of user_id, input_summary, output_summary, metadata", name)
			}
			f.in |= bit
		}
	}
	switch rule.Detect {
	case "":
		r.plain = r.plain && f.in&inMetadata == 0
		if len(rule.Pattern) > MaxPattern {
			return fmt.Errorf("pattern: %d bytes long, the limit is %d", len(rule.Pattern), MaxPattern)
		}
		re, err := regexp.Compile(rule.Pattern)
		if err != nil {
			return fmt.Errorf("pattern: %w", err)
		}
		f.find = func(text string, found func(start, end int)) {
			for _, m := range re.FindAllStringIndex(text, -1) {
				if m[0] < m[1] {
					found(m[0], m[1])
				}
			}
		}
	case "email":
		f.find, f.group = findEmails, strings.ToLower
	case "card":
		f.find, f.group = findCards, digitsOf
	case "secret":
		f.find = newSecretFinder()
	default:
		return fmt.Errorf("detect: %.40q is none of email, card, secret", rule.Detect)
	}
	r.detectors = append(r.detectors, f)
	return nil
}

func (r *Redactor) addPath(rule Rule) error {
	p := pathRule{name: rule.Name, field: inMetadata}
	switch {
	case len(rule.In) > 0:
		return fmt.Errorf("in: must be empty for a rule with a path")
	case strings.HasPrefix(rule.Path, "/") && len(rule.Path) <= MaxPattern:
		for _, part := range strings.Split(rule.Path[1:], "/") {
			r.plain = false
			p.path = append(p.path, strings.NewReplacer("~1", "/", "~0", "~").Replace(part))
		}
	case fieldBits[rule.Path] != 0 && rule.Path != "metadata":
		p.field = fieldBits[rule.Path]
	default:
		return fmt.Errorf(
			"path: %.40q is neither user_id, input_summary or output_summary nor a pointer such as /customer/email",
			rule.Path)
	}
	r.paths = append(r.paths, p)
	return nil
}

// redaction is one entry of konstruct.redactions.
type redaction struct {
	Rule  string `json:"rule"`
	Field string `json:"field"`
	Count int    `json:"count"`
}

// run is the redaction of one event.
type run struct {
	*Redactor
	tenant   uuid.UUID
	key      []byte // the tenant's key, derived when it is first needed
	redacted []redaction
	report   map[string]bool // marks of whole values, which are not searched again
}

// Fields are the fields of an event that can be redacted.
type Fields struct {
	UserID, Input, Output string
	Metadata              json.RawMessage // a JSON object; nil is none
}

// Error says why an event's metadata can't be redacted.
type Error struct{ Reason string }

// Error implements error.
func (e *Error) Error() string { return "metadata " + e.Reason }

// Apply returns the fields as they will be stored. A mark, "[redacted:RULE:HASH]", replaces each value that the rules
// select, and the metadata's konstruct.redactions lists rule, field and count. The hash is keyed per tenant: equal
// values of one tenant have equal marks. An *Error says that the metadata can't be redacted.
func (r *Redactor) Apply(tenant uuid.UUID, e Fields) (Fields, error) {
	w := &run{Redactor: r, tenant: tenant}
	for _, f := range []struct {
		bit  int
		name string
		text *string
	}{{inUserID, "user_id", &e.UserID}, {inInput, "input_summary", &e.Input}, {inOutput, "output_summary", &e.Output}} {
		*f.text = w.column(f.bit, f.name, *f.text)
	}
	return w.metadata(e)
}

func (w *run) note(rule, field string) {
	for i := range w.redacted {
		if d := &w.redacted[i]; d.Rule == rule && d.Field == field {
			d.Count++
			return
		}
	}
	w.redacted = append(w.redacted, redaction{rule, field, 1})
}

func (w *run) column(bit int, name, text string) string {
	for _, p := range w.paths {
		if p.field == bit && text != "" {
			w.note(p.name, name)
			return w.mark(p.name, text)
		}
	}
	return w.text(bit, name, text)
}

// text replaces what the detectors find. Overlapping finds are redacted as a whole, under the first rule's name.
func (w *run) text(bit int, field, text string) string {
	if text == "" {
		return text
	}
	var spans []span
	for i := range w.detectors {
		f := &w.detectors[i]
		if f.in&bit != 0 {
			f.find(text, func(start, end int) { spans = append(spans, span{start, end, f}) })
		}
	}
	if len(spans) == 0 {
		return text
	}
	// The sort is stable: of finds that begin at the same place, the earlier rule's comes first.
	slices.SortStableFunc(spans, func(a, b span) int { return a.start - b.start })
	var out strings.Builder
	at := 0
	for i := 0; i < len(spans); {
		s := spans[i]
		w.note(s.rule.name, field)
		for i++; i < len(spans) && spans[i].start < s.end; i++ {
			if spans[i].rule != s.rule {
				w.note(spans[i].rule.name, field)
			}
			s.end = max(s.end, spans[i].end)
		}
		out.WriteString(text[at:s.start])
		out.WriteString(w.mark(s.rule.name, s.rule.group(text[s.start:s.end])))
		at = s.end
	}
	out.WriteString(text[at:])
	return out.String()
}

// mark returns the mark that replaces a value.
func (w *run) mark(rule, value string) string {
	if w.key == nil {
		w.key, w.report = tenantKey(w.Redactor.key, w.tenant), map[string]bool{}
	}
	h := hmac.New(sha256.New, w.key)
	h.Write([]byte(rule))
	h.Write([]byte{0})
	h.Write([]byte(value))
	return "[redacted:" + rule + ":" + hex.EncodeToString(h.Sum(nil)[:8]) + "]"
}

// metadata redacts the event's metadata and adds konstruct.redactions.
func (w *run) metadata(e Fields) (Fields, error) {
	raw := e.Metadata
	if raw == nil {
		raw = json.RawMessage("{}")
	}
	if len(w.redacted) == 0 && w.unchanged(raw) {
		return e, nil
	}
	if err := w.check(raw); err != nil {
		return e, err
	}
	var m map[string]any
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	if err := d.Decode(&m); err != nil {
		return e, &Error{"is not a JSON object: " + err.Error()}
	}
	if _, taken := m[redactionsKey]; taken {
		return e, &Error{"has the key " + redactionsKey + ", which only redaction sets"}
	}
	for _, p := range w.paths {
		if p.field == inMetadata {
			w.path(m, p.path, p.name)
		}
	}
	m = w.value(m).(map[string]any)
	if len(w.redacted) == 0 {
		return e, nil
	}
	m[redactionsKey] = w.redacted
	out, err := strictjson.Marshal(m)
	if err != nil {
		return e, &Error{"is not JSON: " + err.Error()}
	}
	e.Metadata = out
	return e, nil
}

// unchanged reports, without decoding the JSON, that it has nothing to redact.
func (w *run) unchanged(raw json.RawMessage) bool {
	if !w.plain || bytes.IndexByte(raw, '\\') >= 0 || bytes.Contains(raw, []byte(redactionsKey)) {
		return false
	}
	text, nothing := string(raw), true
	for i := range w.detectors {
		if f := &w.detectors[i]; f.in&inMetadata != 0 && nothing {
			f.find(text, func(int, int) { nothing = false })
		}
	}
	return nothing
}

// path replaces the values below v that a pointer selects.
func (w *run) path(v any, path []string, rule string) {
	step := func(get any, set func(any)) {
		if len(path) > 1 {
			w.path(get, path[1:], rule)
			return
		}
		if get == nil {
			return
		}
		text, ok := get.(string)
		if !ok {
			raw, err := json.Marshal(get)
			if err != nil {
				return
			}
			text = string(raw)
		}
		w.note(rule, "metadata")
		m := w.mark(rule, text)
		w.report[m] = true
		set(m)
	}
	switch v := v.(type) {
	case map[string]any:
		for k := range v {
			if path[0] == k || path[0] == "*" {
				step(v[k], func(to any) { v[k] = to })
			}
		}
	case []any:
		for i := range v {
			if path[0] == "*" || path[0] == fmt.Sprint(i) {
				step(v[i], func(to any) { v[i] = to })
			}
		}
	}
}

// value redacts every string, integer and key in v.
func (w *run) value(v any) any {
	switch v := v.(type) {
	case string:
		if w.report[v] {
			return v
		}
		return w.text(inMetadata, "metadata", v)
	case json.Number:
		if strings.ContainsAny(string(v), ".eE") {
			return v // a measurement, not an identifying number
		}
		if text := w.text(inMetadata, "metadata", v.String()); text != v.String() {
			return text
		}
	case []any:
		for i := range v {
			v[i] = w.value(v[i])
		}
	case map[string]any:
		out := make(map[string]any, len(v))
		for _, k := range slices.Sorted(maps.Keys(v)) {
			name := w.text(inMetadata, "metadata", k)
			for n := 2; name != k && (has(out, name) || has(v, name)); n++ { // two names with one mark: both are kept
				name = fmt.Sprintf("%s (%d)", w.text(inMetadata, "metadata", k), n)
			}
			out[name] = w.value(v[k])
		}
		return out
	}
	return v
}

func has(m map[string]any, name string) bool { _, is := m[name]; return is }

// tenantKey derives the key of one tenant's marks.
func tenantKey(key []byte, tenant uuid.UUID) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte("konstruct/redact/v1"))
	h.Write(tenant[:])
	return h.Sum(nil)
}

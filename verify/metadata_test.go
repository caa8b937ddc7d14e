package verify_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/evidence"
	"github.com/konstruct/konstruct/internal/trailkit"
	"github.com/konstruct/konstruct/ledger"
)

// value is a JSON value from a small world, so that many contain one another.
func value(r *rand.Rand, depth int) string {
	scalars := []string{"1", "1.0", "10e-1", "0.10E1", "2", "-1", "0", "-0.0", "0e7", "100", "1e2", `"1"`, `"a"`,
		`"\u0061"`, `"ä"`, `""`, "true", "false", "null"}
	if depth == 0 || r.IntN(2) == 0 {
		return scalars[r.IntN(len(scalars))]
	}
	parts := make([]string, r.IntN(4))
	for i := range parts {
		parts[i] = value(r, depth-1)
	}
	if r.IntN(2) == 0 {
		return "[" + strings.Join(parts, ",") + "]"
	}
	return object(r, depth-1)
}

func object(r *rand.Rand, depth int) string {
	names := []string{"a", "b"}
	r.Shuffle(2, func(i, j int) { names[i], names[j] = names[j], names[i] })
	parts := make([]string, r.IntN(3))
	for i := range parts {
		parts[i] = fmt.Sprintf("%q:%s", names[i], value(r, depth))
	}
	return "{" + strings.Join(parts, ",") + "}"
}

// TestEvidenceByMetadataIsWhatTheDatabaseFinds holds the offline reading of "contains" against PostgreSQL's own.
func TestEvidenceByMetadataIsWhatTheDatabaseFinds(t *testing.T) {
	o := trailkit.Open(t)
	r := rand.New(rand.NewPCG(1, 2))
	events := make([]audit.Event, 600)
	for i := range events {
		events[i] = audit.Event{Action: "llm_call", Metadata: []byte(object(r, 3))}
	}
	if _, err := audit.LogBatch(t.Context(), o.Door, trailkit.TenantA, events); err != nil {
		t.Fatal(err)
	}
	o.Round()
	some := 0
	for range 150 {
		raw := object(r, 2)
		var asked audit.Metadata
		if err := json.Unmarshal([]byte(raw), &asked); err != nil {
			t.Fatal(err)
		}
		if len(asked) == 0 {
			continue
		}
		found, err := audit.List(t.Context(), o.Door, trailkit.TenantA,
			audit.Filter{Metadata: asked, Limit: audit.MaxList})
		if err != nil {
			t.Fatal(err)
		}
		want := map[uuid.UUID]bool{}
		for _, e := range found {
			want[e.ID] = true
		}
		got := map[uuid.UUID]bool{}
		result := o.Check(o.Bundle(trailkit.TenantA, evidence.Filter{Metadata: json.RawMessage(raw)}),
			func(t *evidence.Trust) {
				t.Event = func(r *ledger.Record) error { got[r.ID] = true; return nil }
			})
		if !result.OK() || !maps.Equal(got, want) || result.Excluded != int64(len(events)-len(want)) {
			t.Errorf("metadata contains %s: evidence shows %d events and the database finds %d\n%s", raw, len(got),
				len(want), trailkit.Problems(result))
		}
		if len(want) > 0 {
			some++
		}
	}
	if some < 20 {
		t.Errorf("only %d filters match anything", some)
	}
}

func TestEvidenceByMetadataShowsWhatExcludesAndIsHeldToIt(t *testing.T) {
	o := trailkit.Open(t)
	ids, err := audit.LogBatch(t.Context(), o.Door, trailkit.TenantA, []audit.Event{
		{Action: "tool_invocation", Input: "secret", Metadata: []byte(`{"tool":"lookup","n":1}`)},
		{Action: "tool_invocation", Input: "secret", Metadata: []byte(`{"tool":"refund"}`)},
		{Action: "llm_call", Input: "secret", Metadata: []byte(`{"tool":"lookup"}`)},
	})
	if err != nil {
		t.Fatal(err)
	}
	o.Round()
	f := evidence.Filter{Action: text("tool_invocation"), Metadata: json.RawMessage(`{"tool": "lookup"}`)}
	b := o.Bundle(trailkit.TenantA, f, "input_summary")
	r := o.Check(b)
	if !r.OK() || r.Matching != 1 || r.Excluded != 2 || !slices.ContainsFunc(r.Holds, func(s string) bool {
		return strings.Contains(s, `metadata contains {"tool":"lookup"}`)
	}) {
		t.Fatalf("%+v\n%s", r, trailkit.Problems(r))
	}
	if leaves := string(fileOf(t, b, "leaves")); strings.Contains(leaves, "llm_call") == false ||
		strings.Count(leaves, "lookup") != 1 || strings.Contains(leaves, "secret") {
		t.Error("an excluded event shows more, or other fields, than it must")
	}
	narrower := o.Check(trailkit.EditManifest(t, b, func(m *evidence.Manifest) {
		m.Filter.Metadata = json.RawMessage(`{"tool":"refund"}`)
	}))
	if narrower.OK() || !strings.Contains(trailkit.Problems(narrower), ids[0].String()) {
		t.Errorf("the filter's metadata changed: %s", trailkit.Problems(narrower))
	}
	for _, c := range []struct{ metadata, want string }{
		{`[1]`, "metadata: must be a JSON object"}, {`{"a":1} {}`, "metadata: must be a JSON object"},
		{`null`, "metadata: must be a JSON object"},
		{`{"a":"` + strings.Repeat("x", evidence.MaxMetadata) + `"}`, "the limit is 4096"},
	} {
		forged := trailkit.EditFile(t, b, "manifest.json", func(raw []byte) []byte {
			return []byte(strings.Replace(string(raw), "{\n      \"tool\": \"lookup\"\n    }", c.metadata, 1))
		})
		if r := o.Check(forged); r.OK() || !strings.Contains(trailkit.Problems(r), c.want) &&
			!strings.Contains(trailkit.Problems(r), "the manifest is not JSON") &&
			!strings.Contains(trailkit.Problems(r), "not written as it should be") {
			t.Errorf("a filter that asks for %.40s: %s", c.metadata, trailkit.Problems(r))
		}
	}
	if r :=
		o.Check(
			o.Bundle(trailkit.TenantA,
				evidence.Filter{Metadata: json.RawMessage(`{"n":1e400000000000000000000}`)})); !r.OK() ||
		r.Matching != 0 {
		t.Errorf("a number that no numeric holds: %s", trailkit.Problems(r))
	}
}

package ledger_test

import (
	"encoding/hex"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/konstruct/konstruct/ledger"
)

// vector is an entry of testdata/vectors.json, which make.py makes from docs/leaf-format.md alone.
type vector struct {
	What          string  `json:"what"`
	TenantID      string  `json:"tenant_id"`
	ID            string  `json:"id"`
	Salt          string  `json:"salt"`
	CreatedAt     int64   `json:"created_at"`
	RecordedAt    int64   `json:"recorded_at"`
	Mode          int16   `json:"mode"`
	AgentID       *string `json:"agent_id"`
	UserID        *string `json:"user_id"`
	ActionType    string  `json:"action_type"`
	InputSummary  *string `json:"input_summary"`
	OutputSummary *string `json:"output_summary"`
	LatencyMS     *int32  `json:"latency_ms"`
	Metadata      string  `json:"metadata"`
	Commitments   string  `json:"commitments"`
	LeafHash      string  `json:"leaf_hash"`
}

func TestLeafVectors(t *testing.T) {
	raw, err := os.ReadFile("testdata/vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	var vectors []vector
	if err := json.Unmarshal(raw, &vectors); err != nil {
		t.Fatal(err)
	}
	if len(vectors) < 46 {
		t.Fatalf("%d vectors", len(vectors))
	}
	for _, v := range vectors {
		e := ledger.Event{TenantID: uuid.MustParse(v.TenantID), ID: uuid.MustParse(v.ID),
			CreatedAt: ledger.Micros(v.CreatedAt), UserID: v.UserID, ActionType: v.ActionType,
			InputSummary: v.InputSummary, OutputSummary: v.OutputSummary, LatencyMS: v.LatencyMS, Metadata: v.Metadata}
		if v.AgentID != nil {
			id := [16]byte(uuid.MustParse(*v.AgentID))
			e.AgentID = &id
		}
		salt, err := hex.DecodeString(v.Salt)
		if err != nil {
			t.Fatal(err)
		}
		c := e.Commitments([16]byte(salt))
		var joined []byte
		for _, h := range c {
			joined = append(joined, h[:]...)
		}
		if got := hex.EncodeToString(joined); got != v.Commitments {
			t.Errorf("%s: commitments\n%s, want\n%s", v.What, got, v.Commitments)
		}
		h := ledger.LeafHash(e.Leaf(ledger.Mode(v.Mode), ledger.Micros(v.RecordedAt), c))
		if got := hex.EncodeToString(h[:]); got != v.LeafHash {
			t.Errorf("%s: leaf hash %s, want %s", v.What, got, v.LeafHash)
		}
	}
}

// FuzzLeaf checks that two events that differ in one field have different leaves: also when text moves from one field
// to the next, and when NULL becomes empty.
func FuzzLeaf(f *testing.F) {
	f.Add("a", "bc", "ab", "c", int32(0), false)
	f.Add("", "", "", "", int32(-1), true)
	f.Fuzz(func(t *testing.T, user, in, user2, in2 string, latency int32, null bool) {
		salt := [16]byte{1, 2, 3}
		a, b := ledger.Event{UserID: &user, InputSummary: &in}, ledger.Event{UserID: &user2, InputSummary: &in2}
		if null {
			b.UserID, b.LatencyMS = nil, &latency
		}
		la, lb := a.Leaf(0, 1, a.Commitments(salt)), b.Leaf(0, 1, b.Commitments(salt))
		same := user == user2 && in == in2 && !null
		if same != (ledger.LeafHash(la) == ledger.LeafHash(lb)) {
			t.Errorf("%q %q and %q %q (null %v): leaves alike %v", user, in, user2, in2, null, !same)
		}
		if len(la) != len(lb) {
			t.Errorf("leaves of %d and %d bytes", len(la), len(lb))
		}
	})
}

func BenchmarkLeaf(b *testing.B) {
	text := "What the agent was asked, in a sentence or two of the usual length for a summary."
	e := ledger.Event{UserID: &text, ActionType: "llm_call", InputSummary: &text, OutputSummary: &text,
		Metadata: `{"gen_ai.request.model": "m"}`}
	b.ReportAllocs()
	for b.Loop() {
		ledger.LeafHash(e.Leaf(0, 1, e.Commitments([16]byte{1})))
	}
}

// TestAnIDHasOneForm holds that only the canonical text of a UUID is parsed.
func TestAnIDHasOneForm(t *testing.T) {
	const canonical = "01a22a19-f1fa-7306-badf-844ec8407b8b"
	for _, s := range []string{canonical, "00000000-0000-0000-0000-000000000000"} {
		if id, err := ledger.ParseID(s); err != nil || ledger.FormatID(id) != s {
			t.Errorf("%s: %x, %v", s, id, err)
		}
	}
	for _, s := range []string{"", strings.ReplaceAll(canonical, "-", ""), strings.ToUpper(canonical),
		"01a2-2a19f1fa7306badf844ec8407b8b---", canonical + "-", "-" + canonical, canonical[1:], canonical + "0",
		"{" + canonical + "}", "urn:uuid:" + canonical, "01a22a19-f1fa-7306-badf-844ec8407b8g"} {
		if id, err := ledger.ParseID(s); err == nil || id != [16]byte{} {
			t.Errorf("%q: %x, %v", s, id, err)
		}
	}
}

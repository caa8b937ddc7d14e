package verify_test

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/transparency-dev/formats/proof"
	merkle "github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/evidence"
	"github.com/konstruct/konstruct/internal/trailkit"
	"github.com/konstruct/konstruct/ledger"
	"github.com/konstruct/konstruct/verify"
)

func text(s string) *string { return &s }

// mixed writes events of several kinds and returns the ids of the tool calls.
func mixed(o *trailkit.Trail, tenant uuid.UUID, n int) (tools []uuid.UUID) {
	o.T.Helper()
	events := make([]audit.Event, n)
	for i := range events {
		events[i] = audit.Event{Action: "llm_call", UserID: "ada", Input: "secret question", Output: "answer",
			Metadata: []byte(`{"n":1}`)}
		if i%3 == 0 {
			events[i].Action, events[i].AgentID = "tool_invocation",
				uuid.MustParse("aaaaaaaa-0000-4000-8000-00000000000a")
		}
	}
	ids, err := audit.LogBatch(o.T.Context(), o.Door, tenant, events)
	if err != nil {
		o.T.Fatal(err)
	}
	for i, id := range ids {
		if i%3 == 0 {
			tools = append(tools, id)
		}
	}
	return tools
}

func TestEvidenceIsCompleteAndShowsNoMoreThanItMust(t *testing.T) {
	o := trailkit.Open(t)
	tools := mixed(o, trailkit.TenantA, 700)
	mixed(o, trailkit.TenantB, 10)
	o.Round()
	tools = append(tools, mixed(o, trailkit.TenantA, 5)...)
	o.Round()

	everything := o.Check(o.Bundle(trailkit.TenantA, evidence.Filter{}))
	if !everything.OK() || everything.Matching != 705 || everything.Excluded != 0 || len(everything.Holds) < 4 {
		t.Fatalf("everything: %+v\n%s", everything, trailkit.Problems(everything))
	}
	var shown []uuid.UUID
	b := o.Bundle(trailkit.TenantA,
		evidence.Filter{Action: text("tool_invocation"), Agent: "aaaaaaaa-0000-4000-8000-00000000000a",
			Since: time.Now().Add(-time.Hour), Until: time.Now().Add(time.Hour)}, "output_summary")
	r := o.Check(b, func(t *evidence.Trust) {
		t.Event = func(r *ledger.Record) error {
			if r.Shown[ledger.OutputSummary-1].Open || !r.Shown[ledger.InputSummary-1].Open ||
				string(r.Shown[ledger.InputSummary-1].Value) != "secret question" {
				return fmt.Errorf("event %x shows the wrong fields", r.ID)
			}
			shown = append(shown, r.ID)
			return nil
		}
	})
	if !r.OK() || r.Matching != int64(len(tools)) || r.Excluded != 705-r.Matching ||
		fmt.Sprint(shown) != fmt.Sprint(tools) {
		t.Errorf("tool calls: %+v\n%s", r, trailkit.Problems(r))
	}
	// What does not match shows its action type, and nothing else.
	if n := bytes.Count(b, []byte("secret question")); n > 3*len(tools) {
		t.Errorf("the question is in the bundle %d times, and %d events match", n, len(tools))
	}
	if bytes.Contains(b, []byte(trailkit.TenantB.String())) {
		t.Error("another tenant is named")
	}
	// A time without events, and a tenant without any.
	none := o.Check(o.Bundle(trailkit.TenantA, evidence.Filter{Until: time.Now().Add(-time.Hour)}))
	if !none.OK() || none.Matching != 0 {
		t.Errorf("before everything: %+v\n%s", none, trailkit.Problems(none))
	}
	if _, err := verify.WriteBundle(t.Context(), o.Logs, uuid.New(), evidence.Filter{}, nil, io.Discard,
		nil); err == nil ||
		!strings.Contains(err.Error(), "no signed checkpoint") {
		t.Errorf("a tenant that is not there: %v", err)
	}
	if _, err := verify.WriteBundle(t.Context(), o.Logs, trailkit.TenantA, evidence.Filter{Action: text("x")},
		[]string{"action_type"}, io.Discard, nil); err == nil ||
		!strings.Contains(err.Error(), "action_type can't be withheld") {
		t.Errorf("withholding what the filter asks for: %v", err)
	}
	other := o.Check(b, func(t *evidence.Trust) { t.Key = otherKey(o.T) })
	if other.OK() || !strings.Contains(trailkit.Problems(other), "not signed with the key you gave") {
		t.Errorf("another key: %s", trailkit.Problems(other))
	}
}

func fileOf(t *testing.T, bundle []byte, file string) (raw []byte) {
	t.Helper()
	trailkit.EditFile(t, bundle, file, func(b []byte) []byte { raw = b; return b })
	return raw
}

func TestEveryAttackOnABundleIsNamed(t *testing.T) {
	o := trailkit.Open(t)
	tools := mixed(o, trailkit.TenantA, 300)
	mixed(o, trailkit.TenantB, 300)
	o.Round()
	mixed(o, trailkit.TenantA, 3)
	o.Round()
	filter := evidence.Filter{Action: text("tool_invocation")}
	a, b := o.Bundle(trailkit.TenantA, filter), o.Bundle(trailkit.TenantB, filter)
	if r := o.Check(a); !r.OK() {
		t.Fatalf("an honest bundle: %s", trailkit.Problems(r))
	}
	id := tools[1]
	at := func(raw []byte) int { return bytes.Index(raw, id[:]) }
	for _, c := range []struct {
		name   string
		bundle []byte
		want   string
	}{
		{"an event altered", trailkit.EditFile(t, a, "leaves", func(raw []byte) []byte {
			i := at(raw) + bytes.Index(raw[at(raw):], []byte("secret question"))
			raw[i] = 'S'
			return raw
		}), "do not lead to the root signed at size 303"},
		{"an event removed", trailkit.EditFile(t, a, "leaves", func(raw []byte) []byte {
			next := bytes.Index(raw, tools[2][:])
			return append(raw[:at(raw):at(raw)], raw[next:]...)
		}), "it holds 300 leaves, and the range from 0 to 303 has 303"},
		{"a leaf doubled", trailkit.EditFile(t, a, "leaves", func(raw []byte) []byte {
			return append(raw, raw[at(raw):]...)
		}), "more leaves than the range has"},
		{"cut off", trailkit.EditFile(t, a, "leaves", func(raw []byte) []byte {
			return raw[:len(raw)-10]
		}), "it is cut off"},
		{"the filter's text changed", trailkit.EditManifest(t, a, func(m *evidence.Manifest) {
			m.Filter.Action = text("llm_call")
		}), "the filter was changed"},
		{"the filter made wider", trailkit.EditManifest(t, a, func(m *evidence.Manifest) {
			m.Filter.Action = nil
		}), "is neither shown nor said to be withheld"},
		{"the filter's time changed", trailkit.EditManifest(t, a, func(m *evidence.Manifest) {
			m.Filter.Until = time.Now().Add(-time.Hour)
		}), "the filter was changed"},
		{"the number of events changed", trailkit.EditManifest(t, a, func(m *evidence.Manifest) {
			m.Matching--
		}), "it says that 100 events match, and 101 do"},
		{"two tenants' bundles spliced", trailkit.EditFile(t, a, "leaves", func([]byte) []byte {
			return fileOf(t, b, "leaves")
		}), "it holds 300 leaves, and the range from 0 to 303"},
		{"another tenant's name", trailkit.EditManifest(t, a, func(m *evidence.Manifest) {
			m.Tenant = trailkit.TenantB.String()
		}), "of tenant " + trailkit.TenantB.String()},
		{"another tenant's checkpoint", trailkit.EditManifest(t, a, func(m *evidence.Manifest) {
			var of evidence.Manifest
			if err := json.Unmarshal(fileOf(t, b, "manifest.json"), &of); err != nil {
				t.Fatal(err)
			}
			m.LastSigned = of.LastSigned
		}), "the checkpoint that is the newest"},
		{"the end moved", trailkit.EditManifest(t, a, func(m *evidence.Manifest) {
			m.To.At += 1_000_000
		}), "the checkpoint that the range ends at"},
		{"the key replaced", trailkit.EditManifest(t, a, func(m *evidence.Manifest) {
			m.Keys[0].Key = otherKey(t).String()
		}), "not signed with the key you gave"},
		{"the super-log's checkpoint altered", trailkit.EditManifest(t, a, func(m *evidence.Manifest) {
			m.Super = strings.Replace(m.Super, "\n4\n", "\n5\n", 1)
		}), "its checkpoint"},
		{"the page for people altered", trailkit.EditFile(t, a, "summary.html", func(raw []byte) []byte {
			return append(raw, ' ')
		}), "do not read it"},
		{"the page and its hash exchanged", func() []byte {
			page := []byte("<!doctype html><p>Nothing happened.")
			return trailkit.EditFile(t, trailkit.EditManifest(t, a, func(m *evidence.Manifest) {
				m.Summary = evidence.Hash(sha256.Sum256(page))
			}), "summary.html", func([]byte) []byte { return page })
		}(), "it does not say what the bundle proves"},
		{"a name twice in the manifest", trailkit.EditFile(t, a, "manifest.json", func(raw []byte) []byte {
			return bytes.Replace(raw, []byte(`"matching_events"`), []byte(`"matching_events": 7,
  "matching_events"`), 1)
		}), "not written as it should be"},
		{"a name in capitals", trailkit.EditFile(t, a, "manifest.json", func(raw []byte) []byte {
			return bytes.Replace(raw, []byte(`"matching_events"`), []byte(`"Matching_Events": 7,
  "matching_events"`), 1)
		}), "not written as it should be"},
		{"a space in the manifest", trailkit.EditFile(t, a, "manifest.json", func(raw []byte) []byte {
			return append(raw, ' ')
		}), "not written as it should be"},
		{"something before the file", append([]byte("#!/bin/sh\n"), a...), "not a bundle"},
		{"something behind it", append(slices.Clone(a), "\n"...), "not a bundle"},
		{"another zip behind it", append(slices.Clone(b), a...), "not a bundle"},
		{"something between its files", func() []byte {
			at := bytes.LastIndex(a, []byte("PK\x01\x02manifest"))
			if at < 0 {
				at = bytes.Index(a, []byte("PK\x01\x02"))
			}
			return slices.Concat(a[:at], []byte("hidden"), a[at:])
		}(), "not a bundle"},
		{"a comment", func() []byte {
			c := append(slices.Clone(a), "hidden"...)
			c[len(a)-2] = 6
			return c
		}(), "not a bundle"},
		{"a file put in", addFile(t, a, "../../etc/passwd"), "which no bundle does"},
		{"a file twice", addFile(t, a, "leaves"), "it holds leaves twice"},
		{"no zip", []byte("hello"), "not a bundle"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := o.Check(c.bundle)
			if r.OK() || !strings.Contains(trailkit.Problems(r), c.want) {
				t.Errorf("it does not say %q:\n%s", c.want, trailkit.Problems(r))
			}
		})
	}
}

func addFile(t *testing.T, bundle []byte, name string) []byte {
	t.Helper()
	in, err := zip.NewReader(bytes.NewReader(bundle), int64(len(bundle)))
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	w := zip.NewWriter(&out)
	for _, f := range in.File {
		if err := w.Copy(f); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.CreateHeader(&zip.FileHeader{Name: name}); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// TestAProofVerifiesByOthersMeans checks a tlog-proof with the C2SP libraries alone.
func TestAProofVerifiesByOthersMeans(t *testing.T) {
	o := trailkit.Open(t)
	ids := o.Log(trailkit.TenantA, 600)
	o.Round()
	ids = append(ids, o.Log(trailkit.TenantA, 3)...)
	o.Round()
	for _, i := range []int{0, 255, 256, 599, 600, 602} {
		raw, err := verify.Prove(t.Context(), o.Logs, trailkit.TenantA, ids[i], func(f ledger.Field) bool {
			return f == ledger.UserID
		})
		if err != nil {
			t.Fatal(err)
		}
		var p proof.TLogProof
		if err := p.Unmarshal(raw); err != nil || p.Index != uint64(i) {
			t.Fatalf("event %d: index %d, %v", i, p.Index, err)
		}
		c, err := ledger.OpenCheckpoint(string(p.Checkpoint), o.Key().OfTenant(trailkit.TenantA))
		if err != nil {
			t.Fatal(err)
		}
		r, err := ledger.ReadOpened(p.ExtraData)
		if err != nil || r.TenantID != trailkit.TenantA || r.ID != ids[i] ||
			string(r.Shown[ledger.UserID-1].Value) != "ada" ||
			r.Shown[ledger.InputSummary-1].Open {
			t.Fatalf("%+v, %v", r, err)
		}
		var hashes tlog.RecordProof
		for _, h := range p.Hashes {
			hashes = append(hashes, h)
		}
		if err := tlog.CheckRecord(hashes, c.Size, tlog.Hash(c.Root), int64(i), tlog.Hash(r.Hash())); err != nil {
			t.Errorf("event %d: %v", i, err)
		}
		hashed := make([][]byte, len(p.Hashes))
		for j := range p.Hashes {
			hashed[j] = p.Hashes[j][:]
		}
		leaf := r.Hash()
		if err := merkle.VerifyInclusion(rfc6962.DefaultHasher, p.Index, uint64(c.Size), leaf[:], hashed,
			c.Root[:]); err != nil {
			t.Errorf("event %d, by transparency-dev's library: %v", i, err)
		}
	}
	if _, err := verify.Prove(t.Context(), o.Logs, trailkit.TenantB, ids[0], nil); err == nil {
		t.Error("another tenant's event is proven")
	}
	waiting := o.Log(trailkit.TenantA, 1)
	if _, err := verify.Prove(t.Context(), o.Logs, trailkit.TenantA, waiting[0], nil); err == nil ||
		!strings.Contains(err.Error(), "no signed checkpoint yet") {
		t.Errorf("an event that waits: %v", err)
	}
}

// TestABundleSaysWhatIsInNoLogYet makes bundles while an event waits, and while one can't enter the log.
func TestABundleSaysWhatIsInNoLogYet(t *testing.T) {
	o := trailkit.Open(t)
	o.Log(trailkit.TenantA, 5)
	o.Round()
	id := o.Log(trailkit.TenantA, 1)[0]
	r := o.Check(o.Bundle(trailkit.TenantA, evidence.Filter{}))
	if !r.OK() || r.Waiting != 1 ||
		!strings.Contains(strings.Join(r.Notes, "\n"), "1 more event of the tenant's was sealed and in no log yet") {
		t.Errorf("while one waits: %+v\n%s", r, trailkit.Problems(r))
	}
	o.Attack(`UPDATE audit_seals SET epoch = 9999 WHERE event_id = $1`, id)
	o.Round()
	if r := o.Check(o.Bundle(trailkit.TenantA, evidence.Filter{})); r.OK() ||
		!strings.Contains(trailkit.Problems(r),
			"1 event of the tenant's was sealed and not in the log though it should have been") {
		t.Errorf("while one can't enter the log: %+v\n%s", r, trailkit.Problems(r))
	}
}

// TestASummaryCutsBetweenCharacters lists an event whose text is cut, and holds that the page stays UTF-8 and that a
// page from before, which was cut inside a character, still verifies.
func TestASummaryCutsBetweenCharacters(t *testing.T) {
	o := trailkit.Open(t)
	if _, err := audit.Log(t.Context(), o.Door, trailkit.TenantA,
		audit.Event{Action: "llm_call", Input: "a" + strings.Repeat("é", 1500)}); err != nil {
		t.Fatal(err)
	}
	o.Round()
	b := o.Bundle(trailkit.TenantA, evidence.Filter{})
	page := fileOf(t, b, "summary.html")
	if r := o.Check(b); !r.OK() || !utf8.Valid(page) || !bytes.Contains(page, []byte("é…")) {
		t.Errorf("valid UTF-8: %v\n%s", utf8.Valid(page), trailkit.Problems(r))
	}
	before := bytes.ReplaceAll(page, []byte("é…"), []byte("é\xc3…"))
	b = trailkit.EditFile(t, b, "summary.html", func([]byte) []byte { return before })
	b = trailkit.EditManifest(t, b, func(m *evidence.Manifest) { m.Summary = evidence.Hash(sha256.Sum256(before)) })
	if r := o.Check(b); !r.OK() {
		t.Errorf("a page from before: %s", trailkit.Problems(r))
	}
}

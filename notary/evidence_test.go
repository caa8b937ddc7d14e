package notary_test

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

	"github.com/google/uuid"
	"github.com/transparency-dev/formats/proof"
	merkle "github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/evidence"
	"github.com/konstruct/konstruct/ledger"
	"github.com/konstruct/konstruct/verify"
)

// bundle makes evidence of a tenant.
func (o *office) bundle(tenant uuid.UUID, f evidence.Filter, withheld ...string) []byte {
	o.t.Helper()
	var b bytes.Buffer
	if _, err := verify.WriteBundle(o.t.Context(), o.db, tenant, f, withheld, &b, nil); err != nil {
		o.t.Fatal(err)
	}
	return b.Bytes()
}

// check verifies a bundle with the office's key.
func (o *office) check(bundle []byte, change ...func(*evidence.Trust)) *evidence.Result {
	o.t.Helper()
	t := evidence.Trust{Key: o.key(), Floor: evidence.DefaultFloor}
	for _, c := range change {
		c(&t)
	}
	r, err := evidence.Verify(bytes.NewReader(bundle), int64(len(bundle)), t)
	if err != nil {
		return &evidence.Result{Count: 1, Problems: []evidence.Problem{{Description: err.Error()}}}
	}
	return r
}

func problems(r *evidence.Result) string {
	var b strings.Builder
	for _, p := range r.Problems {
		fmt.Fprintf(&b, "event %s place %q: %s\n", p.Event, p.Location, p.Description)
	}
	return b.String()
}

func text(s string) *string { return &s }

// mixed writes events of several kinds and returns the ids of the tool calls.
func (o *office) mixed(tenant uuid.UUID, n int) (tools []uuid.UUID) {
	o.t.Helper()
	events := make([]audit.Event, n)
	for i := range events {
		events[i] = audit.Event{Action: "llm_call", UserID: "ada", Input: "secret question", Output: "answer",
			Metadata: []byte(`{"n":1}`)}
		if i%3 == 0 {
			events[i].Action, events[i].AgentID = "tool_invocation",
				uuid.MustParse("aaaaaaaa-0000-4000-8000-00000000000a")
		}
	}
	ids, err := audit.LogBatch(o.t.Context(), o.door, tenant, events)
	if err != nil {
		o.t.Fatal(err)
	}
	for i, id := range ids {
		if i%3 == 0 {
			tools = append(tools, id)
		}
	}
	return tools
}

func TestEvidenceIsCompleteAndShowsNoMoreThanItMust(t *testing.T) {
	o := open(t)
	tools := o.mixed(tenantA, 700)
	o.mixed(tenantB, 10)
	o.round()
	tools = append(tools, o.mixed(tenantA, 5)...)
	o.round()

	everything := o.check(o.bundle(tenantA, evidence.Filter{}))
	if !everything.OK() || everything.Matching != 705 || everything.Excluded != 0 || len(everything.Holds) < 4 {
		t.Fatalf("everything: %+v\n%s", everything, problems(everything))
	}
	var shown []uuid.UUID
	b := o.bundle(tenantA,
		evidence.Filter{Action: text("tool_invocation"), Agent: "aaaaaaaa-0000-4000-8000-00000000000a",
			Since: time.Now().Add(-time.Hour), Until: time.Now().Add(time.Hour)}, "output_summary")
	r := o.check(b, func(t *evidence.Trust) {
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
		t.Errorf("tool calls: %+v\n%s", r, problems(r))
	}
	// What does not match shows its action type, and nothing else.
	if n := bytes.Count(b, []byte("secret question")); n > 3*len(tools) {
		t.Errorf("the question is in the bundle %d times, and %d events match", n, len(tools))
	}
	if bytes.Contains(b, []byte(tenantB.String())) {
		t.Error("another tenant is named")
	}
	// A time without events, and a tenant without any.
	none := o.check(o.bundle(tenantA, evidence.Filter{Until: time.Now().Add(-time.Hour)}))
	if !none.OK() || none.Matching != 0 {
		t.Errorf("before everything: %+v\n%s", none, problems(none))
	}
	if _, err := verify.WriteBundle(t.Context(), o.db, uuid.New(), evidence.Filter{}, nil, io.Discard,
		nil); err == nil ||
		!strings.Contains(err.Error(), "no signed checkpoint") {
		t.Errorf("a tenant that is not there: %v", err)
	}
	if _, err := verify.WriteBundle(t.Context(), o.db, tenantA, evidence.Filter{Action: text("x")},
		[]string{"action_type"}, io.Discard, nil); err == nil ||
		!strings.Contains(err.Error(), "action_type is withheld") {
		t.Errorf("withholding what the filter asks for: %v", err)
	}
	other := o.check(b, func(t *evidence.Trust) { t.Key = otherKey(o.t) })
	if other.OK() || !strings.Contains(problems(other), "not signed with the key you gave") {
		t.Errorf("another key: %s", problems(other))
	}
}

// change rewrites one file of a bundle.
func change(t *testing.T, bundle []byte, file string, how func([]byte) []byte) []byte {
	t.Helper()
	in, err := zip.NewReader(bytes.NewReader(bundle), int64(len(bundle)))
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	w := zip.NewWriter(&out)
	for _, f := range in.File {
		r, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		raw, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if f.Name == file {
			raw = how(raw)
		}
		to, err := w.CreateHeader(&zip.FileHeader{Name: f.Name, Method: f.Method})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := to.Write(raw); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func fileOf(t *testing.T, bundle []byte, file string) (raw []byte) {
	t.Helper()
	change(t, bundle, file, func(b []byte) []byte { raw = b; return b })
	return raw
}

// manifest rewrites a bundle's manifest.
func manifest(t *testing.T, bundle []byte, how func(*evidence.Manifest)) []byte {
	t.Helper()
	return change(t, bundle, "manifest.json", func(raw []byte) []byte {
		var m evidence.Manifest
		if err := json.Unmarshal(raw, &m); err != nil {
			t.Fatal(err)
		}
		how(&m)
		raw, err := json.MarshalIndent(m, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		return raw
	})
}

func TestEveryAttackOnABundleIsNamed(t *testing.T) {
	o := open(t)
	tools := o.mixed(tenantA, 300)
	o.mixed(tenantB, 300)
	o.round()
	o.mixed(tenantA, 3)
	o.round()
	filter := evidence.Filter{Action: text("tool_invocation")}
	a, b := o.bundle(tenantA, filter), o.bundle(tenantB, filter)
	if r := o.check(a); !r.OK() {
		t.Fatalf("an honest bundle: %s", problems(r))
	}
	id := tools[1]
	at := func(raw []byte) int { return bytes.Index(raw, id[:]) }
	for _, c := range []struct {
		name   string
		bundle []byte
		want   string
	}{
		{"an event altered", change(t, a, "leaves", func(raw []byte) []byte {
			i := at(raw) + bytes.Index(raw[at(raw):], []byte("secret question"))
			raw[i] = 'S'
			return raw
		}), "do not lead to the root signed at size 303"},
		{"an event removed", change(t, a, "leaves", func(raw []byte) []byte {
			next := bytes.Index(raw, tools[2][:])
			return append(raw[:at(raw):at(raw)], raw[next:]...)
		}), "it holds 300 leaves, and the range from 0 to 303 has 303"},
		{"a leaf doubled", change(t, a, "leaves", func(raw []byte) []byte {
			return append(raw, raw[at(raw):]...)
		}), "more leaves than the range has"},
		{"cut off", change(t, a, "leaves", func(raw []byte) []byte { return raw[:len(raw)-10] }), "it is cut off"},
		{"the filter's text changed", manifest(t, a, func(m *evidence.Manifest) {
			m.Filter.Action = text("llm_call")
		}), "the filter was changed"},
		{"the filter made wider", manifest(t, a, func(m *evidence.Manifest) {
			m.Filter.Action = nil
		}), "is neither shown nor said to be withheld"},
		{"the filter's time changed", manifest(t, a, func(m *evidence.Manifest) {
			m.Filter.Until = time.Now().Add(-time.Hour)
		}), "the filter was changed"},
		{"the number of events changed", manifest(t, a, func(m *evidence.Manifest) {
			m.Matching--
		}), "it says that 100 events match, and 101 do"},
		{"two tenants' bundles spliced", change(t, a, "leaves", func([]byte) []byte {
			return fileOf(t, b, "leaves")
		}), "it holds 300 leaves, and the range from 0 to 303"},
		{"another tenant's name", manifest(t, a, func(m *evidence.Manifest) {
			m.Tenant = tenantB.String()
		}), "of tenant " + tenantB.String()},
		{"another tenant's checkpoint", manifest(t, a, func(m *evidence.Manifest) {
			var of evidence.Manifest
			if err := json.Unmarshal(fileOf(t, b, "manifest.json"), &of); err != nil {
				t.Fatal(err)
			}
			m.LastSigned = of.LastSigned
		}), "the checkpoint that is the newest"},
		{"the end moved", manifest(t, a, func(m *evidence.Manifest) {
			m.To.At += 1_000_000
		}), "the checkpoint that the range ends at"},
		{"the key replaced", manifest(t, a, func(m *evidence.Manifest) {
			m.Keys[0].Key = otherKey(t).String()
		}), "not signed with the key you gave"},
		{"the super-log's checkpoint altered", manifest(t, a, func(m *evidence.Manifest) {
			m.Super = strings.Replace(m.Super, "\n4\n", "\n5\n", 1)
		}), "its checkpoint"},
		{"the page for people altered", change(t, a, "summary.html", func(raw []byte) []byte {
			return append(raw, ' ')
		}), "do not read it"},
		{"the page and its hash exchanged", func() []byte {
			page := []byte("<!doctype html><p>Nothing happened.")
			return change(t, manifest(t, a, func(m *evidence.Manifest) {
				m.Summary = evidence.Hash(sha256.Sum256(page))
			}), "summary.html", func([]byte) []byte { return page })
		}(), "it does not say what the bundle proves"},
		{"a name twice in the manifest", change(t, a, "manifest.json", func(raw []byte) []byte {
			return bytes.Replace(raw, []byte(`"matching_events"`), []byte(`"matching_events": 7,
  "matching_events"`), 1)
		}), "not written as it should be"},
		{"a name in capitals", change(t, a, "manifest.json", func(raw []byte) []byte {
			return bytes.Replace(raw, []byte(`"matching_events"`), []byte(`"Matching_Events": 7,
  "matching_events"`), 1)
		}), "not written as it should be"},
		{"a space in the manifest", change(t, a, "manifest.json", func(raw []byte) []byte {
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
			r := o.check(c.bundle)
			if r.OK() || !strings.Contains(problems(r), c.want) {
				t.Errorf("it does not say %q:\n%s", c.want, problems(r))
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
	o := open(t)
	ids := o.log(tenantA, 600)
	o.round()
	ids = append(ids, o.log(tenantA, 3)...)
	o.round()
	for _, i := range []int{0, 255, 256, 599, 600, 602} {
		raw, err := verify.Prove(t.Context(), o.db, tenantA, ids[i], func(f ledger.Field) bool {
			return f == ledger.UserID
		})
		if err != nil {
			t.Fatal(err)
		}
		var p proof.TLogProof
		if err := p.Unmarshal(raw); err != nil || p.Index != uint64(i) {
			t.Fatalf("event %d: index %d, %v", i, p.Index, err)
		}
		c, err := ledger.OpenCheckpoint(string(p.Checkpoint), o.key().OfTenant(tenantA))
		if err != nil {
			t.Fatal(err)
		}
		r, err := ledger.ReadOpened(p.ExtraData)
		if err != nil || r.TenantID != tenantA || r.ID != ids[i] || string(r.Shown[ledger.UserID-1].Value) != "ada" ||
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
	if _, err := verify.Prove(t.Context(), o.db, tenantB, ids[0], nil); err == nil {
		t.Error("another tenant's event is proven")
	}
	waiting := o.log(tenantA, 1)
	if _, err := verify.Prove(t.Context(), o.db, tenantA, waiting[0], nil); err == nil ||
		!strings.Contains(err.Error(), "no signed checkpoint yet") {
		t.Errorf("an event that waits: %v", err)
	}
}

// TestABundleSaysWhatIsInNoLogYet makes bundles while an event waits, and while one can't enter the log.
func TestABundleSaysWhatIsInNoLogYet(t *testing.T) {
	o := open(t)
	o.log(tenantA, 5)
	o.round()
	id := o.log(tenantA, 1)[0]
	r := o.check(o.bundle(tenantA, evidence.Filter{}))
	if !r.OK() || r.Waiting != 1 ||
		!strings.Contains(strings.Join(r.Notes, "\n"), "1 more events of the tenant's were sealed and in no log yet") {
		t.Errorf("while one waits: %+v\n%s", r, problems(r))
	}
	o.attack(`UPDATE audit_seals SET epoch = 9999 WHERE event_id = $1`, id)
	o.round()
	if r := o.check(o.bundle(tenantA, evidence.Filter{})); r.OK() ||
		!strings.Contains(problems(r),
			"1 events of the tenant's were sealed and not in the log though they should have been") {
		t.Errorf("while one can't enter the log: %+v\n%s", r, problems(r))
	}
}

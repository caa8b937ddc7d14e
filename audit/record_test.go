package audit_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/konstruct/konstruct/audit"
)

func TestAnEventComesOutOfTheSpoolAsItWentIn(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		id := rapid.Custom(func(t *rapid.T) uuid.UUID {
			return uuid.UUID(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "id"))
		})
		text := rapid.String()
		tenant := id.Draw(t, "tenant")
		e := audit.Event{ID: id.Draw(t, "event"), AgentID: id.Draw(t, "agent"), UserID: text.Draw(t, "user"),
			Action: text.Draw(t, "action"), Input: text.Draw(t, "input"), Output: text.Draw(t, "output"),
			Metadata: []byte(text.Draw(t, "metadata")),
			Latency:  time.Duration(rapid.Int32Min(0).Draw(t, "ms")) * time.Millisecond,
			At: time.UnixMicro(rapid.Int64Range(-210_000_000_000_000_000, 253_000_000_000_000_000).Draw(t, "at")).
				UTC()}
		raw := e.Record(tenant)
		gotTenant, got, err := audit.ReadRecord(raw)
		if err != nil || gotTenant != tenant || cmp.Diff(got, e, cmpopts.IgnoreUnexported(e)) != "" {
			t.Fatalf("%v %s", err, cmp.Diff(got, e, cmpopts.IgnoreUnexported(e)))
		}
		if cut := rapid.IntRange(0, len(raw)-1).Draw(t, "cut"); true {
			if _, _, err := audit.ReadRecord(raw[:cut]); err == nil {
				t.Fatalf("the first %d of %d bytes are an event", cut, len(raw))
			}
		}
	})
}

// FuzzRecord decodes any bytes: a decoded event must encode to bytes that decode to the same event.
func FuzzRecord(f *testing.F) {
	f.Add(audit.Event{ID: tenantB, Action: "x", Input: "y", Metadata: []byte("{}"),
		At: time.Unix(1, 0)}.Record(tenantA))
	f.Fuzz(func(t *testing.T, raw []byte) {
		tenant, e, err := audit.ReadRecord(raw)
		if err != nil {
			return
		}
		again := e.Record(tenant)
		if t2, e2, err := audit.ReadRecord(again); err != nil || t2 != tenant || !bytes.Equal(e2.Record(t2), again) {
			t.Fatalf("%+v does not read back: %v", e, err)
		}
	})
}

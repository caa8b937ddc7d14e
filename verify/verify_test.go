package verify_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/konstruct/konstruct/internal/trailkit"
	"github.com/konstruct/konstruct/logstore"
	"github.com/konstruct/konstruct/verify"
)

func TestVerifyReadsEverythingAndThenOnlyWhatIsNew(t *testing.T) {
	o := trailkit.Open(t)
	if r := o.MustHold(); r.Events != 0 || r.Anchor != "empty" {
		t.Errorf("an empty database: %+v", r)
	}
	o.Log(trailkit.TenantA, 300)
	o.Log(trailkit.TenantB, 7)
	if r := o.MustHold(); r.Waiting.Events != 307 || r.Leaves != 0 {
		t.Errorf("before the notary: %+v", r)
	}
	o.Round()
	o.Log(trailkit.TenantA, 400)
	o.Round()
	o.Log(trailkit.TenantB, 1)
	r := o.MustHold()
	if r.Events != 708 || r.Leaves != 707 || r.Waiting.Events != 1 || r.Logs != 2 ||
		!strings.HasPrefix(r.Anchor, "agrees at size") || r.Checkpoints < 5 {
		t.Errorf("%+v", r)
	}
	o.Round()
	o.Log(trailkit.TenantB, 2)
	o.Round()
	since, found := o.Verify(func(v *verify.Options) { v.Since = r.State })
	if !since.OK() || since.Leaves != 3 || since.Events != 3 {
		t.Errorf("since: %+v\n%s", since, trailkit.Lines(found))
	}
	one, found := o.Verify(func(v *verify.Options) { v.Tenant = &trailkit.TenantB })
	if !one.OK() || one.Leaves != 10 || one.Events != 10 || one.Logs != 1 {
		t.Errorf("one tenant: %+v\n%s", one, trailkit.Lines(found))
	}
	none, found := o.Verify(func(v *verify.Options) { id := uuid.New(); v.Tenant = &id })
	if !none.OK() || none.Events != 0 || none.Logs != 0 {
		t.Errorf("a tenant that is not there: %+v\n%s", none, trailkit.Lines(found))
	}
}

// TestProgressOnlyRises holds that what is reported of a verification's progress neither falls nor passes its total.
func TestProgressOnlyRises(t *testing.T) {
	o := trailkit.Open(t)
	o.Log(trailkit.TenantA, 300)
	o.Log(trailkit.TenantB, 7)
	o.Round()
	last := map[string]int64{}
	if r, found := o.Verify(func(v *verify.Options) {
		v.Progress = func(what string, done, total int64) {
			if done != last[what]+1 || done > total {
				t.Errorf("%s: %d of %d after %d", what, done, total, last[what])
			}
			last[what] = done
		}
	}); !r.OK() {
		t.Error(trailkit.Lines(found))
	}
	if last["events"] == 0 || last["logs"] != 3 {
		t.Errorf("it ended at %v", last)
	}
}

// TestTheAnchorIsComparedWhileANotaryCatchesUp verifies a database whose resumed notary has not sequenced the earlier
// clusters' events yet, against an anchor that agrees and against one that is ahead.
func TestTheAnchorIsComparedWhileANotaryCatchesUp(t *testing.T) {
	o := trailkit.Open(t)
	o.Log(trailkit.TenantA, 3)
	o.Round()
	o.Attack(`UPDATE audit_heads SET segment = segment - 1 WHERE tenant_id = $1`, logstore.Operator)
	r, found := o.Verify()
	if r.OK() || !strings.HasPrefix(r.Anchor, "agrees at size") {
		t.Errorf("%+v\n%s", r, trailkit.Lines(found))
	}
	if err := os.Remove(filepath.Join(o.Dir, "checkpoint")); err != nil {
		t.Fatal(err)
	}
	r, found = o.Verify()
	if r.Anchor != "empty" || !strings.Contains(trailkit.Lines(found), "the anchor holds nothing") {
		t.Errorf("%+v\n%s", r, trailkit.Lines(found))
	}
	if r, _ := o.Verify(func(v *verify.Options) { v.Anchor = nil }); r.Anchor != "not compared" {
		t.Errorf("without an anchor: %+v", r)
	}
}

// TestEventsThatLieElsewhereAreFound moves rows to the end of their table, far from the rows of neighbouring seals,
// and changes one of them: the first is no finding, the second is.
func TestEventsThatLieElsewhereAreFound(t *testing.T) {
	o := trailkit.Open(t)
	ids := o.Log(trailkit.TenantA, 12_000)
	o.Round()
	if blocks := trailkit.One[int64](o, `SELECT pg_relation_size('audit_seals') / 8192`); blocks < 300 {
		t.Fatalf("%d blocks of seals are one chunk", blocks)
	}
	for _, id := range []uuid.UUID{ids[10], ids[11], ids[12]} {
		o.Attack(`UPDATE audit_events SET user_id = user_id WHERE id = $1`, id)
	}
	if r := o.MustHold(); r.Events != 12_000 || r.Leaves != 12_000 {
		t.Errorf("%+v", r)
	}
	o.Attack(`UPDATE audit_events SET user_id = 'eve' WHERE id = $1`, ids[11])
	o.Attack(`DELETE FROM audit_events WHERE id = $1`, ids[12])
	r, found := o.Verify()
	if r.OK() || r.Events != 11_998 || r.Changed != 1 || r.Missing != 1 || len(found) != 2 {
		t.Errorf("%+v\n%s", r, trailkit.Lines(found))
	}
}

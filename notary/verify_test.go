package notary_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/evidence"
	"github.com/konstruct/konstruct/verify"
)

// verify verifies everything, against the key and the copy outside, and returns what was found.
func (o *office) verify(change ...func(*verify.Options)) (*verify.Result, []audit.Finding) {
	o.t.Helper()
	key := o.key()
	var found []audit.Finding
	v := verify.Options{Key: &key, Anchor: o.c.Anchor, IntegrateWithin: time.Hour, Floor: evidence.DefaultFloor,
		OnFinding: func(f audit.Finding) {
			found = append(found, f)
		}}
	for _, c := range change {
		c(&v)
	}
	r, err := verify.Run(o.t.Context(), o.db, v)
	if err != nil {
		o.t.Fatal(err)
	}
	return r, found
}

// honest holds that everything verifies.
func (o *office) honest() *verify.Result {
	o.t.Helper()
	r, found := o.verify()
	if !r.OK() || len(found) > 0 {
		o.t.Fatalf("an honest log: %+v\n%s", r, lines(found))
	}
	return r
}

func lines(found []audit.Finding) string {
	var b strings.Builder
	for _, f := range found {
		fmt.Fprintf(&b, "tenant %s event %s place %q: %s\n", f.Tenant, f.Event, f.Location, f.Problem)
	}
	return b.String()
}

func TestVerifyReadsEverythingAndThenOnlyWhatIsNew(t *testing.T) {
	o := open(t)
	if r := o.honest(); r.Events != 0 || r.Anchor != "nothing is kept there" {
		t.Errorf("an empty database: %+v", r)
	}
	o.log(tenantA, 300)
	o.log(tenantB, 7)
	if r := o.honest(); r.Waiting.Events != 307 || r.Leaves != 0 {
		t.Errorf("before the notary: %+v", r)
	}
	o.round()
	o.log(tenantA, 400)
	o.round()
	o.log(tenantB, 1)
	r := o.honest()
	if r.Events != 708 || r.Leaves != 707 || r.Waiting.Events != 1 || r.Logs != 2 ||
		!strings.HasPrefix(r.Anchor, "agrees at size") || r.Checkpoints < 5 {
		t.Errorf("%+v", r)
	}
	o.round()
	o.log(tenantB, 2)
	o.round()
	since, found := o.verify(func(v *verify.Options) { v.Since = r.State })
	if !since.OK() || since.Leaves != 3 || since.Events != 3 {
		t.Errorf("since: %+v\n%s", since, lines(found))
	}
	one, found := o.verify(func(v *verify.Options) { v.Tenant = &tenantB })
	if !one.OK() || one.Leaves != 10 || one.Events != 10 || one.Logs != 1 {
		t.Errorf("one tenant: %+v\n%s", one, lines(found))
	}
	none, found := o.verify(func(v *verify.Options) { id := uuid.New(); v.Tenant = &id })
	if !none.OK() || none.Events != 0 || none.Logs != 0 {
		t.Errorf("a tenant that is not there: %+v\n%s", none, lines(found))
	}
}

// TestEventsThatLieElsewhereAreFound moves rows to the other end of their table, where their seals' neighbours are not,
// and changes one of them: the first is no finding, the second is.
func TestEventsThatLieElsewhereAreFound(t *testing.T) {
	o := open(t)
	ids := o.log(tenantA, 12_000)
	o.round()
	if blocks := one[int64](o, `SELECT pg_relation_size('audit_seals') / 8192`); blocks < 300 {
		t.Fatalf("%d blocks of seals are one chunk", blocks)
	}
	for _, id := range []uuid.UUID{ids[10], ids[11], ids[12]} {
		o.attack(`UPDATE audit_events SET user_id = user_id WHERE id = $1`, id)
	}
	if r := o.honest(); r.Events != 12_000 || r.Leaves != 12_000 {
		t.Errorf("%+v", r)
	}
	o.attack(`UPDATE audit_events SET user_id = 'eve' WHERE id = $1`, ids[11])
	o.attack(`DELETE FROM audit_events WHERE id = $1`, ids[12])
	r, found := o.verify()
	if r.OK() || r.Events != 11_998 || r.Changed != 1 || r.Missing != 1 || len(found) != 2 {
		t.Errorf("%+v\n%s", r, lines(found))
	}
}

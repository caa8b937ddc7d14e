package audit_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/internal/testkit"
	"github.com/konstruct/konstruct/tenantdb"
)

// cutTrail returns a trail whose database is behind a proxy.
func cutTrail(t *testing.T, p *audit.Policy, dir string) (*audit.Trail, *testkit.Proxy, *testkit.DB) {
	t.Helper()
	d := testkit.Database(t)
	proxy, url := testkit.NewProxy(t, d.URL("konstruct_app"))
	trail, err := openTrail(mustOpen(t, url), dir, p)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { trail.Close() })
	return trail, proxy, d
}

func spoolOf(t *testing.T, trail *audit.Trail) *audit.Spool {
	t.Helper()
	s, err := trail.Spool()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func events(t *testing.T, d *testkit.DB, tenant uuid.UUID, f audit.Filter) []audit.StoredEvent {
	t.Helper()
	list, err := audit.List(t.Context(), testkit.DoorOf(t, d), tenant, f)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// eventually waits until the condition is true.
func eventually(t *testing.T, what string, so func() bool) {
	t.Helper()
	testkit.Until(t, what, so)
}

// TestCallsGoOnOrFailAsTheOperatorSays cuts the database off. Tenant A's calls go on and leave a gap, which is
// recorded; tenant B's calls fail.
func TestCallsGoOnOrFailAsTheOperatorSays(t *testing.T) {
	p := policy(t, `{"default":{"wait":"150ms"},"tenants":{"`+tenantA.String()+
		`":{"when_unwritable":"go_on","wait":"150ms"}}}`)
	dir := t.TempDir()
	trail, proxy, d := cutTrail(t, p, dir)
	proxy.Cut(true)
	agents := []uuid.UUID{uuid.New(), uuid.New()}
	begin := time.Now()
	for i := range 3 {
		if id, err := trail.Log(t.Context(), tenantA, audit.Event{AgentID: agents[i/2], Action: "x"}); id != uuid.Nil ||
			err != nil {
			t.Errorf("a call that goes on: %v, %v", id, err)
		}
	}
	if ids, err := trail.LogBatch(t.Context(), tenantA, make([]audit.Event, 5)); err == nil || ids != nil {
		t.Errorf("bad events went on: %v, %v", ids, err)
	}
	if ids, err := trail.LogBatch(t.Context(), tenantA,
		[]audit.Event{{AgentID: agents[0], Action: "x"}, {AgentID: agents[1], Action: "x"}}); err != nil ||
		len(ids) > 0 {
		t.Errorf("a batch that goes on: %v, %v", ids, err)
	}
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("calls took %v", took)
	}
	if _, err := trail.Log(t.Context(), tenantB, audit.Event{Action: "x"}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a call that fails: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(20*time.Millisecond, cancel)
	if _, err := trail.Log(ctx, tenantA, audit.Event{Action: "x"}); !errors.Is(err, context.Canceled) {
		t.Errorf("a caller who gave up: %v", err)
	}
	if st, err := audit.InspectSpool(dir); err != nil || st.Gaps < 1 {
		t.Errorf("the folder tells of %d missing events, %v", st.Gaps, err)
	}
	if n, err := testutil.GatherAndCount(registry(t, trail)); err != nil || n < 12 {
		t.Errorf("%d metrics, %v", n, err)
	}
	for name, want := range map[string]float64{"konstruct_audit_gap_events": 5, "konstruct_audit_gap_events_total": 5} {
		if got := metric(t, trail, name); got != want {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
	proxy.Drop()
	proxy.Cut(false)
	var gaps []audit.StoredEvent
	eventually(t, "the gap is recorded", func() bool {
		gaps = events(t, d, tenantA, audit.Filter{Action: audit.ActionGap})
		return len(gaps) > 0
	})
	var m struct {
		From, To time.Time
		Count    int
		AtLeast  bool
		Agents   map[uuid.UUID]int
	}
	for key, to := range map[string]any{"from": &m.From, "to": &m.To, "count": &m.Count, "at_least": &m.AtLeast,
		"agents": &m.Agents} {
		if err := json.Unmarshal(member(t, gaps[0].Metadata, "konstruct.gap."+key), to); err != nil {
			t.Fatal(err)
		}
	}
	if len(gaps) != 1 || m.Count != 5 || m.AtLeast || m.Agents[agents[0]] != 3 || m.Agents[agents[1]] != 2 ||
		m.From.Before(begin.Add(-time.Second)) || !m.To.After(m.From) {
		t.Errorf("%d gaps, %+v", len(gaps), m)
	}
	if others := events(t, d, tenantB, audit.Filter{}); len(others) != 0 {
		t.Errorf("another tenant sees %d events", len(others))
	}
	eventually(t, "nothing is left of the gap", func() bool {
		_, err := os.Stat(filepath.Join(dir, "gaps.json"))
		return errors.Is(err, os.ErrNotExist)
	})
}

func member(t *testing.T, object json.RawMessage, key string) json.RawMessage {
	t.Helper()
	var m map[string]json.RawMessage
	if err := json.Unmarshal(object, &m); err != nil || m[key] == nil {
		t.Fatalf("no %s in %s (%v)", key, object, err)
	}
	return m[key]
}

func registry(t *testing.T, trail *audit.Trail) *prometheus.Registry {
	t.Helper()
	r := prometheus.NewPedanticRegistry()
	if err := r.Register(trail.Collector()); err != nil {
		t.Fatal(err)
	}
	return r
}

func metric(t *testing.T, trail *audit.Trail, name string) float64 {
	t.Helper()
	families, err := registry(t, trail).Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			m := f.GetMetric()[0]
			return m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	t.Fatalf("no metric %s", name)
	return 0
}

// TestAGapSurvivesTheKillOfItsProcess starts with the file of a killed process.
func TestAGapSurvivesTheKillOfItsProcess(t *testing.T) {
	p := policy(t, `{"default":{"when_unwritable":"go_on","wait":"50ms"}}`)
	dir, copied := t.TempDir(), t.TempDir()
	trail, proxy, d := cutTrail(t, p, dir)
	proxy.Cut(true)
	if _, err := trail.Log(t.Context(), tenantA, audit.Event{Action: "x"}); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(filepath.Join(dir, "gaps.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(copied, "gaps.json"), raw, 0o600); err != nil {
		t.Fatal(err)
	}
	next, err := openTrail(testkit.DoorOf(t, d), copied, p)
	if err != nil {
		t.Fatal(err)
	}
	defer next.Close()
	var gaps []audit.StoredEvent
	eventually(t, "the gap is recorded", func() bool {
		gaps = events(t, d, tenantA, audit.Filter{Action: audit.ActionGap})
		return len(gaps) > 0
	})
	if string(member(t, gaps[0].Metadata, "konstruct.gap.at_least")) != "true" ||
		string(member(t, gaps[0].Metadata, "konstruct.gap.count")) != "1" {
		t.Errorf("recorded as %s", gaps[0].Metadata)
	}
	if why := string(member(t, gaps[0].Metadata, "konstruct.gap.reason")); why == `""` || strings.Contains(why,
		"127.0.0.1") || strings.Contains(why, "konstruct_app") || strings.Contains(why, "SQL") {
		t.Errorf("the gap's reason tells of the operator's machines: %s", why)
	}
	proxy.Drop()
	proxy.Cut(false) // the first process is still alive: the gap is recorded once
	eventually(t, "it is recorded by both", func() bool {
		_, err := os.Stat(filepath.Join(dir, "gaps.json"))
		return errors.Is(err, os.ErrNotExist)
	})
	if gaps = events(t, d, tenantA, audit.Filter{Action: audit.ActionGap}); len(gaps) != 1 {
		t.Errorf("the gap is there %d times", len(gaps))
	}
}

func TestAPolicyThatGoesOnNeedsAFolder(t *testing.T) {
	door := testkit.Door(t)
	_, err := audit.OpenTrail(door, audit.TrailConfig{Policy: policy(t, `{"default":{"when_unwritable":"go_on"}}`)})
	if !errors.Is(err, audit.ErrNoSpool) {
		t.Errorf("without a folder: %v", err)
	}
	trail, err := audit.OpenTrail(door, audit.TrailConfig{})
	if err != nil {
		t.Fatal(err)
	}
	defer trail.Close()
	if _, err := trail.LogAsync(t.Context(), tenantA, []audit.Event{{Action: "x"}}); !errors.Is(err, audit.ErrNoSpool) {
		t.Errorf("later, without a folder: %v", err)
	}
}

// TestTheSpoolSetsAsideWhatTheDatabaseRefuses checks that a refused event does not block others, is kept, and can be
// put back.
func TestTheSpoolSetsAsideWhatTheDatabaseRefuses(t *testing.T) {
	d, dir := testkit.Database(t), t.TempDir()
	testkit.Owner(t, d,
		`CREATE FUNCTION refuse_bad() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
	    IF NEW.action_type = 'bad' THEN RAISE EXCEPTION 'a bad event'; END IF; RETURN NEW; END $$;
	  CREATE TRIGGER refuse_bad BEFORE INSERT ON audit_events FOR EACH ROW EXECUTE FUNCTION refuse_bad()`)
	trail, err := openTrail(testkit.DoorOf(t, d), dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer trail.Close()
	var list []audit.Event
	for i := range 50 {
		e := audit.Event{Action: "good", UserID: fmt.Sprint(i)}
		if i%10 == 3 {
			e.Action = "bad"
		}
		list = append(list, e)
	}
	for _, tenant := range []uuid.UUID{tenantA, tenantB} {
		if _, err := trail.LogAsync(t.Context(), tenant, list); err != nil {
			t.Fatal(err)
		}
	}
	s := spoolOf(t, trail)
	if err := s.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := s.Status(); got.Rejected != 10 || got.Waiting != 0 {
		t.Errorf("status %+v", got)
	}
	for _, tenant := range []uuid.UUID{tenantA, tenantB} {
		if n := len(events(t, d, tenant, audit.Filter{Limit: 100})); n != 45 {
			t.Errorf("tenant %s has %d events, want 45", tenant, n)
		}
	}
	kept, err := audit.ReadRejected(dir)
	if err != nil || len(kept) != 10 || !strings.Contains(kept[0].Reason, "a bad event") || kept[0].Action != "bad" {
		t.Fatalf("kept %d, %v: %+v", len(kept), err, kept)
	}
	if n, err := s.Retry(t.Context()); err != nil || n != 10 {
		t.Errorf("put back %d, %v", n, err)
	}
	if err := s.Drain(t.Context()); err != nil || s.Status().Rejected != 10 {
		t.Errorf("refused again: %+v, %v", s.Status(), err)
	}
	testkit.Owner(t, d, `DROP TRIGGER refuse_bad ON audit_events`)
	if n, err := s.Retry(t.Context()); err != nil || n != 10 {
		t.Errorf("put back %d, %v", n, err)
	}
	if err := s.Drain(t.Context()); err != nil || s.Status().Rejected != 0 {
		t.Errorf("after the mend: %+v, %v", s.Status(), err)
	}
	if n := len(events(t, d, tenantA, audit.Filter{Limit: 100})); n != 50 {
		t.Errorf("%d events, want 50", n)
	}
}

// TestARetryThroughTheSpoolIsLoggedOnce checks that the same id with the same content is logged once, whichever way it
// comes, and that other content is refused.
func TestARetryThroughTheSpoolIsLoggedOnce(t *testing.T) {
	d := testkit.Database(t)
	trail, err := openTrail(testkit.DoorOf(t, d), t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer trail.Close()
	e := audit.Event{ID: uuid.New(), Action: "x", Input: "once"}
	other := e
	other.Input = "other content"
	for _, list := range [][]audit.Event{{e, {Action: "y"}}, {e}, {e, other}} {
		if _, err := trail.LogAsync(t.Context(), tenantA, list); err != nil {
			t.Fatal(err)
		}
	}
	s := spoolOf(t, trail)
	if err := s.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	if id, err := trail.Log(t.Context(), tenantA, e); err != nil || id != e.ID {
		t.Errorf("once more, at once: %v, %v", id, err)
	}
	if st := s.Status(); st.Rejected != 1 {
		t.Errorf("status %+v", st)
	}
	if n := len(events(t, d, tenantA, audit.Filter{})); n != 2 {
		t.Errorf("%d events, want 2", n)
	}
}

// TestTooManyRefusedEventsStopDelivery checks that the folder's size is bounded and no event is lost.
func TestTooManyRefusedEventsStopDelivery(t *testing.T) {
	d, dir := testkit.Database(t), t.TempDir()
	trail, err := openTrail(testkit.DoorOf(t, d), dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	trail.SetRejectLimit(1)
	taken := uuid.New()
	if _, err := trail.Log(t.Context(), tenantA, audit.Event{ID: taken, Action: "x"}); err != nil {
		t.Fatal(err)
	}
	other := audit.Event{ID: taken, Action: "taken"}
	if _, err := trail.LogAsync(t.Context(), tenantA, []audit.Event{other}); err != nil {
		t.Fatal(err)
	}
	s := spoolOf(t, trail)
	if err := s.Drain(t.Context()); err != nil || s.Status().Rejected != 1 {
		t.Fatalf("%+v, %v", s.Status(), err)
	}
	second := other
	second.Input = "another"
	ids, err := trail.LogAsync(t.Context(), tenantA, []audit.Event{second, {Action: "behind it"}})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "delivery stops", func() bool { return s.Status().Problem != "" })
	if st := s.Status(); !strings.Contains(st.Problem, "refuses too many events") || st.Waiting != 2 {
		t.Errorf("%+v", st)
	}
	if err := trail.Close(); err != nil {
		t.Fatal(err)
	}
	if trail, err = openTrail(testkit.DoorOf(t, d), dir, nil); err != nil { // with the default limit
		t.Fatal(err)
	}
	defer trail.Close()
	s = spoolOf(t, trail)
	if err := s.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := audit.Get(t.Context(), testkit.DoorOf(t, d), tenantA, ids[1]); err != nil {
		t.Errorf("the event behind it: %v", err)
	}
}

// TestEveryWayIntoTheTrailRedacts checks that no redacted value reaches the database or the spool's files.
func TestEveryWayIntoTheTrailRedacts(t *testing.T) {
	d, dir := testkit.Database(t), t.TempDir()
	trail, err := openTrail(testkit.DoorOf(t, d), dir, policy(t, detectAll))
	if err != nil {
		t.Fatal(err)
	}
	defer trail.Close()
	e := audit.Event{Action: "x", Input: "mail ada@example.org", Metadata: json.RawMessage(`{"to":"ada@example.org"}`)}
	if _, err := trail.Log(t.Context(), tenantA, e); err != nil {
		t.Fatal(err)
	}
	if _, err := trail.LogBatch(t.Context(), tenantA, []audit.Event{e}); err != nil {
		t.Fatal(err)
	}
	if _, err := trail.LogAsync(t.Context(), tenantA, []audit.Event{e}); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if raw, err := os.ReadFile(f); err == nil && strings.Contains(string(raw), "ada@") {
			t.Errorf("%s holds what was to be redacted", f)
		}
	}
	if err := testkit.DoorOf(t, d).Tx(t.Context(), tenantA, inTx(trail, e)); err != nil {
		t.Fatal(err)
	}
	s := spoolOf(t, trail)
	if err := s.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	list := events(t, d, tenantA, audit.Filter{})
	if len(list) != 4 {
		t.Fatalf("%d events", len(list))
	}
	for _, e := range list {
		if strings.Contains(*e.Input+string(e.Metadata), "ada@") ||
			!strings.Contains(string(e.Metadata), `"rule": "email"`) {
			t.Errorf("stored %q, %s", *e.Input, e.Metadata)
		}
	}
}

func TestNoTenantGetsIntoTheSpool(t *testing.T) {
	trail, err := openTrail(testkit.Door(t), t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer trail.Close()
	if _, err := trail.LogAsync(t.Context(), uuid.Nil, []audit.Event{{Action: "x"}}); !errors.Is(err,
		tenantdb.ErrNoTenant) {
		t.Errorf("no tenant: %v", err)
	}
	var field *audit.FieldError
	if _, err := trail.LogAsync(t.Context(), tenantA, []audit.Event{{}}); !errors.As(err, &field) ||
		field.Field != "action_type" {
		t.Errorf("a bad event: %v", err)
	}
}

// TestAClosedTrailSaysSo checks that a call after Close fails and adds no gap, which nobody would record.
func TestAClosedTrailSaysSo(t *testing.T) {
	dir := t.TempDir()
	trail, err := openTrail(testkit.Door(t), dir, policy(t, `{"default":{"when_unwritable":"go_on"}}`))
	if err != nil {
		t.Fatal(err)
	}
	if err := trail.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := trail.Log(t.Context(), tenantA, audit.Event{Action: "x"}); !errors.Is(err, audit.ErrClosed) {
		t.Errorf("at once: %v", err)
	}
	if _, err := trail.LogAsync(t.Context(), tenantA, []audit.Event{{Action: "x"}}); !errors.Is(err, audit.ErrClosed) {
		t.Errorf("later: %v", err)
	}
	if st, err := audit.InspectSpool(dir); err != nil || st.Gaps != 0 {
		t.Errorf("%d events in a gap, %v", st.Gaps, err)
	}
}

// TestARefusedGapIsKept has the database refuse the event that records a gap: it is kept like any refused event, and
// can be put back.
func TestARefusedGapIsKept(t *testing.T) {
	dir := t.TempDir()
	trail, proxy, d := cutTrail(t, policy(t, `{"default":{"when_unwritable":"go_on","wait":"50ms"}}`), dir)
	testkit.Owner(t, d,
		`CREATE FUNCTION refuse_gap() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
	    IF NEW.action_type = 'audit_gap' THEN RAISE EXCEPTION 'no gaps'; END IF; RETURN NEW; END $$;
	  CREATE TRIGGER refuse_gap BEFORE INSERT ON audit_events FOR EACH ROW EXECUTE FUNCTION refuse_gap()`)
	proxy.Cut(true)
	if _, err := trail.Log(t.Context(), tenantA, audit.Event{Action: "x"}); err != nil {
		t.Fatal(err)
	}
	proxy.Drop()
	proxy.Cut(false)
	s := spoolOf(t, trail)
	eventually(t, "the refused gap is kept", func() bool { return s.Status().Rejected == 1 })
	if got := metric(t, trail, "konstruct_audit_spool_rejected_events"); got != 1 {
		t.Errorf("the metric says %v", got)
	}
	kept, err := audit.ReadRejected(dir)
	if err != nil || len(kept) != 1 || kept[0].Action != audit.ActionGap ||
		!strings.Contains(kept[0].Reason, "no gaps") {
		t.Fatalf("%+v, %v", kept, err)
	}
	eventually(t, "the gap waits no more", func() bool {
		st, err := audit.InspectSpool(dir)
		return err == nil && st.Gaps == 0 && st.Rejected == 1
	})
	testkit.Owner(t, d, `DROP TRIGGER refuse_gap ON audit_events`)
	if n, err := s.Retry(t.Context()); err != nil || n != 1 {
		t.Errorf("put back %d, %v", n, err)
	}
	if err := s.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	gaps := events(t, d, tenantA, audit.Filter{Action: audit.ActionGap})
	if len(gaps) != 1 || gaps[0].ID != kept[0].Event ||
		string(member(t, gaps[0].Metadata, "konstruct.gap.count")) != "1" {
		t.Errorf("recorded as %+v", gaps)
	}
}

// TestRefusedEventsAreCountedOnce retries after a retry that was killed: both files hold the same events.
func TestRefusedEventsAreCountedOnce(t *testing.T) {
	d, dir := testkit.Database(t), t.TempDir()
	trail, err := openTrail(testkit.DoorOf(t, d), dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	taken := uuid.New()
	if _, err := trail.Log(t.Context(), tenantA, audit.Event{ID: taken, Action: "x"}); err != nil {
		t.Fatal(err)
	}
	if _, err := trail.LogAsync(t.Context(), tenantA, []audit.Event{{ID: taken, Action: "taken"}}); err != nil {
		t.Fatal(err)
	}
	if err := spoolOf(t, trail).Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := trail.Close(); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(filepath.Join(dir, "rejected.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "retrying.jsonl"), raw, 0o600); err != nil {
		t.Fatal(err)
	}
	if trail, err = openTrail(testkit.DoorOf(t, d), dir, nil); err != nil {
		t.Fatal(err)
	}
	defer trail.Close()
	s := spoolOf(t, trail)
	if n := s.Status().Rejected; n != 1 {
		t.Errorf("%d at the start", n)
	}
	for range 2 {
		if _, err := s.Retry(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := s.Drain(t.Context()); err != nil {
			t.Fatal(err)
		}
		kept, err := audit.ReadRejected(dir)
		if n := s.Status().Rejected; err != nil || n != len(kept) || n < 1 {
			t.Errorf("the status says %d, and %d are kept, %v", n, len(kept), err)
		}
	}
}

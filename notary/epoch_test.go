package notary_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/evidence"
	"github.com/konstruct/konstruct/internal/testkit"
	"github.com/konstruct/konstruct/internal/trailkit"
	"github.com/konstruct/konstruct/ledger"
	"github.com/konstruct/konstruct/logstore"
	"github.com/konstruct/konstruct/migrations"
	"github.com/konstruct/konstruct/notary"
	"github.com/konstruct/konstruct/verify"
)

// goesOn checks that a database has the first epoch, and that events written to it enter the log.
func goesOn(o *trailkit.Trail, before int64) {
	o.T.Helper()
	if n := trailkit.One[int16](o, `SELECT audit_epoch_now()`); n != 1 {
		o.T.Errorf("epoch %d is in force, want 1", n)
	}
	o.Log(trailkit.TenantA, 3)
	o.Round()
	if r := o.MustHold(); r.Waiting.Events != 0 || r.Leaves != before+3 {
		o.T.Errorf("%d leaves, %s waiting; want %d leaves", r.Leaves, &r.Waiting, before+3)
	}
}

// TestTheEpochSurvives runs everything that would reset a sequence.
func TestTheEpochSurvives(t *testing.T) {
	t.Run("a crash before the first checkpoint", func(t *testing.T) {
		d := testkit.Own(t)
		trailkit.OpenOn(t, d).Log(trailkit.TenantA, 2)
		d.Restart(t)
		goesOn(trailkit.OpenOn(t, d), 2)
	})
	t.Run("a crash after the notary began", func(t *testing.T) {
		d := testkit.Own(t)
		o := trailkit.OpenOn(t, d)
		o.Log(trailkit.TenantA, 2)
		o.Round()
		c := o.Config
		d.Restart(t)
		o = trailkit.OpenOn(t, d)
		o.Config.Keys, o.Config.Anchor = c.Keys, c.Anchor
		goesOn(o, 2)
	})
	t.Run("a crash behind each migration", func(t *testing.T) {
		d := testkit.OwnEmpty(t)
		for more := true; more; {
			s, err := migrations.Open(d.URL("konstruct_owner"))
			if err != nil {
				t.Fatal(err)
			}
			more, err = s.UpOne(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			s.Close()
			d.Restart(t)
		}
		goesOn(trailkit.OpenOn(t, d), 0)
	})
	for name, migrated := range map[string]bool{"a standby from before migrate up, promoted": false,
		"a standby from after migrate up, promoted": true} {
		t.Run(name, func(t *testing.T) {
			d := testkit.OwnEmpty(t)
			up := func() {
				if err := migrations.Up(t.Context(), d.URL("konstruct_owner"), func(int64, int64) {}); err != nil {
					t.Fatal(err)
				}
			}
			if migrated {
				up()
			}
			standby := d.BaseBackup(t)
			standby.Standby(t)
			if !migrated {
				up()
			}
			o := trailkit.OpenOn(t, d)
			o.Log(trailkit.TenantA, 2)
			o.Round()
			promoted := trailkit.OpenOn(t, standby.Promote(t))
			promoted.Config.Keys, promoted.Config.Anchor = o.Config.Keys, o.Config.Anchor
			goesOn(promoted, 2)
		})
	}
	t.Run("a base backup, restored", func(t *testing.T) {
		d := testkit.Own(t)
		o := trailkit.OpenOn(t, d)
		o.Log(trailkit.TenantA, 2)
		o.Round()
		backup := d.BaseBackup(t)
		d.Cluster.Kill()
		restored := trailkit.OpenOn(t, backup.Restore(t))
		restored.Config.Keys, restored.Config.Anchor = o.Config.Keys, o.Config.Anchor
		goesOn(restored, 2)
	})
	t.Run("what its owner does to sequences", func(t *testing.T) {
		o := trailkit.Open(t)
		for _, sql := range []string{`SELECT setval('audit_epoch', 7)`, `SELECT nextval('audit_epoch')`} {
			if _, err := testkit.Connect(t, o.URL("konstruct_owner")).Exec(t.Context(), sql); err == nil ||
				!strings.Contains(err.Error(), "does not exist") {
				t.Errorf("%s: %v", sql, err)
			}
		}
		if _, err := testkit.Connect(t, o.URL("konstruct_owner")).Exec(t.Context(), `SELECT audit_begin_epoch($1)`,
			logstore.Operator); err == nil || !strings.Contains(err.Error(), "by the notary alone") {
			t.Errorf("an epoch of the owner's: %v", err)
		}
		if _, err := testkit.Connect(t, o.URL("konstruct_owner")).
			Exec(t.Context(), `ALTER TABLE audit_seals ALTER COLUMN epoch SET DEFAULT 7`); err == nil {
			t.Error("the owner moves the epoch past the guard")
		}
		goesOn(o, 0)
	})
}

// TestWhatIsNotInTheLogIsAnErrorEverywhere checks that every command reports each way to omit a sealed event.
func TestWhatIsNotInTheLogIsAnErrorEverywhere(t *testing.T) {
	for name, c := range map[string]struct {
		do   func(o *trailkit.Trail)
		want string
	}{
		"an epoch moved by hand": {func(o *trailkit.Trail) {
			testkit.Owner(o.T, o.DB, `ALTER TABLE audit_seals ALTER COLUMN epoch SET DEFAULT 7`)
			o.Log(trailkit.TenantA, 2)
		}, "2 claim epoch 7, and the notary's is 1"},
		"a seal's epoch forged": {func(o *trailkit.Trail) {
			id := o.Log(trailkit.TenantA, 1)[0]
			o.Attack(`UPDATE audit_seals SET epoch = 9999 WHERE event_id = $1`, id)
		}, "1 claim epoch 9999"},
	} {
		t.Run(name, func(t *testing.T) {
			o := trailkit.Open(t)
			o.Log(trailkit.TenantA, 5)
			o.Round()
			c.do(o)
			n, err := notary.New(o.Config)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := n.Round(t.Context()); err != nil {
				t.Fatal(err)
			}
			n.Close()
			if w := n.Waiting(); w.OK() || !strings.Contains(w.String(), c.want) {
				t.Errorf("the notary: %s", &w)
			}
			if s, err := notary.ReadStatus(t.Context(), o.Logs, o.Config.Anchor); err != nil ||
				!errors.Is(s.Waiting.Err(), logstore.ErrOverdue) || !strings.Contains(s.Waiting.String(), c.want) {
				t.Errorf("status: %s, %v", &s.Waiting, err)
			}
			if r, found := o.Verify(); r.OK() || !strings.Contains(trailkit.Lines(found), c.want) {
				t.Errorf("verify: %s", trailkit.Lines(found))
			}
			if r, found := o.Verify(func(v *verify.Options) {
				v.Tenant = &trailkit.TenantA
			}); r.OK() || !strings.Contains(trailkit.Lines(found), c.want) {
				t.Errorf("verify of the tenant: %s", trailkit.Lines(found))
			}
			if r, found := o.Verify(func(v *verify.Options) { v.Tenant = &trailkit.TenantB }); !r.OK() {
				t.Errorf("verify of another tenant: %s", trailkit.Lines(found))
			}
		})
	}
}

// TestOverdueEventsAreNamedWithTheReason has nothing but time pass: no notary works, or one transaction holds all
// others up.
func TestOverdueEventsAreNamedWithTheReason(t *testing.T) {
	o := trailkit.Open(t)
	o.Log(trailkit.TenantA, 5)
	soon := func(v *verify.Options) { v.IntegrateWithin = time.Nanosecond }
	if r, found := o.Verify(soon); r.OK() || r.Waiting.Overdue != 5 ||
		!strings.Contains(trailkit.Lines(found), "no notary has sequenced them") {
		t.Errorf("without a notary: %+v\n%s", r, trailkit.Lines(found))
	}
	o.Round()
	open := testkit.Connect(t, o.URL("konstruct_app"))
	if _, err := open.Exec(t.Context(), `BEGIN; SET LOCAL app.current_tenant = '`+trailkit.TenantB.String()+
		`'; INSERT INTO audit_events (tenant_id, action_type) VALUES ('`+trailkit.TenantB.String()+
		`', 'x')`); err != nil {
		t.Fatal(err)
	}
	o.Log(trailkit.TenantA, 2)
	o.Config.IntegrateWithin = time.Nanosecond
	n, err := notary.New(o.Config)
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	if _, err := n.Round(t.Context()); err != nil {
		t.Fatal(err)
	}
	if w := n.Waiting(); w.Overdue != 2 ||
		!strings.Contains(w.String(), "behind a transaction that does not end: of server process") {
		t.Errorf("behind an open transaction: %s", &w)
	}
	if _, err := open.Exec(t.Context(), `COMMIT`); err != nil {
		t.Fatal(err)
	}
	if _, err := n.Round(t.Context()); err != nil {
		t.Fatal(err)
	}
	if w := n.Waiting(); !w.OK() || w.Events != 0 {
		t.Errorf("after it ended: %s", &w)
	}
	if r, found := o.Verify(soon); !r.OK() {
		t.Errorf("after it ended: %+v\n%s", r, trailkit.Lines(found))
	}
}

// TestAFalseTimeIsNamed forges seals of now with times of another day, and adoptions that were none.
func TestAFalseTimeIsNamed(t *testing.T) {
	forge := func(mode int, at string) func(o *trailkit.Trail, id uuid.UUID) {
		return func(o *trailkit.Trail, id uuid.UUID) {
			o.Attack(`INSERT INTO audit_events (tenant_id, id, action_type) VALUES ($1, $2,
				'llm_call')`, trailkit.TenantA, id)
			o.Attack(
				`INSERT INTO audit_seals (tenant_id, event_id, mode, salt, commitments, leaf_hash, xid, recorded_at)
			  VALUES ($1, $2, $3, substr(sha256('s'), 1, 16), '', '', pg_current_xact_id(),
			  `+at+`)`, trailkit.TenantA, id, mode)
			o.Attack(trailkit.Reseal, id)
		}
	}
	for name, c := range map[string]struct {
		do   func(o *trailkit.Trail, id uuid.UUID)
		want string
	}{
		"back-dated by a month":      {forge(0, `now() - interval '30 days'`), "it was back-dated"},
		"of tomorrow":                {forge(0, `now() + interval '1 day'`), "which was not yet"},
		"adopted, of no such tenant": {forge(1, `clock_timestamp()`), "its tenant was never adopted"},
		"adopted, when that was over": {func(o *trailkit.Trail, id uuid.UUID) {
			o.Attack(`INSERT INTO audit_adoptions VALUES ($1, now() - interval '2 days', now() - interval '1 day')`,
				trailkit.TenantA)
			forge(1, `clock_timestamp()`)(o, id)
		}, "its tenant's was from"},
	} {
		t.Run(name, func(t *testing.T) {
			o := trailkit.Open(t)
			o.Log(trailkit.TenantA, 5)
			o.Round()
			id := uuid.New()
			c.do(o, id)
			n, err := notary.New(o.Config)
			if err != nil {
				t.Fatal(err)
			}
			for more := true; more; {
				if more, err = n.Round(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			n.Close()
			if got := metric(t, n, "konstruct_notary_misdated_total"); got != 1 {
				t.Errorf("%v counted as misdated", got)
			}
			if o.Leaves(trailkit.TenantA) != 6 {
				t.Errorf("%d leaves: it enters the log as it was sealed", o.Leaves(trailkit.TenantA))
			}
			for _, tenant := range []*uuid.UUID{nil, &trailkit.TenantA} {
				r, found := o.Verify(func(v *verify.Options) { v.Tenant = tenant })
				if r.OK() || len(found) != 1 || found[0].Event != id || !strings.Contains(found[0].Problem, c.want) {
					t.Errorf("verify: %+v\n%s", r, trailkit.Lines(found))
				}
			}
			o.Log(trailkit.TenantA, 3)
			o.Round()
			if r, found := o.Verify(); r.OK() || len(found) != 1 || found[0].Event != id {
				t.Errorf("verify later: %+v\n%s", r, trailkit.Lines(found))
			}
			// A bundle has no checkpoint inside its range; it marks what claims to be older than what stands before it.
			b := o.Check(o.Bundle(trailkit.TenantA, evidence.Filter{}))
			if late := strings.HasPrefix(name, "back-dated"); late &&
				(b.Late != 1 ||
					!strings.Contains(strings.Join(b.Notes, "\n"), "1 event says that it was recorded more than")) {
				t.Errorf("a bundle marks %d: %v", b.Late, b.Notes)
			}
		})
	}
}

// metric returns the value of one of a notary's metrics.
func metric(t *testing.T, n *notary.Notary, name string) float64 {
	t.Helper()
	registry := prometheus.NewRegistry()
	registry.MustRegister(n.Collector())
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return f.Metric[0].GetCounter().GetValue() + f.Metric[0].GetGauge().GetValue()
		}
	}
	t.Fatalf("no metric %s", name)
	return 0
}

// TestTheOwnerCanNotSealWhatHeLikes inserts seals by hand, with the triggers as they are.
func TestTheOwnerCanNotSealWhatHeLikes(t *testing.T) {
	o := trailkit.Open(t)
	o.Log(trailkit.TenantA, 1)
	owner := testkit.Connect(t, o.URL("konstruct_owner"))
	for name, values := range map[string]string{
		"an old transaction": `0, '', '', '', '5', clock_timestamp()`,
		"an old time":        `0, '', '', '', pg_current_xact_id(), now() - interval '1 day'`,
		"a time to come":     `0, '', '', '', pg_current_xact_id(), now() + interval '1 day'`,
		"an adoption":        `1, '', '', '', pg_current_xact_id(), clock_timestamp()`,
	} {
		_, err := owner.Exec(context.Background(),
			`INSERT INTO audit_seals (tenant_id, event_id, mode, salt, commitments, leaf_hash, xid, recorded_at)
			VALUES ('`+trailkit.TenantA.String()+`', gen_random_uuid(), `+values+`)`)
		if err == nil || !strings.Contains(err.Error(), "row-level security") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestATenantTakenAwayIsNamed deletes a tenant from every table, or cuts its log back, and holds that its own
// verification says so.
func TestATenantTakenAwayIsNamed(t *testing.T) {
	for name, cut := range map[string]string{"its last head": ` AND size = 7`, "everything": ``} {
		t.Run(name, func(t *testing.T) {
			o := trailkit.Open(t)
			o.Log(trailkit.TenantA, 3)
			o.Log(trailkit.TenantB, 3)
			o.Round()
			ids := o.Log(trailkit.TenantA, 4)
			o.Round()
			o.MustHold()
			o.Attack(`DELETE FROM audit_heads WHERE tenant_id = $1`+cut, trailkit.TenantA)
			o.Attack(`DELETE FROM audit_checkpoints WHERE tenant_id = $1`+cut, trailkit.TenantA)
			where := ``
			if cut != "" {
				where = ` AND event_id IN ('` + ids[0].String() + `', '` + ids[1].String() + `', '` + ids[2].String() +
					`', '` + ids[3].String() + `')`
			}
			o.Attack(`DELETE FROM audit_events WHERE tenant_id = $1`+strings.ReplaceAll(where, "event_id", "id"),
				trailkit.TenantA)
			o.Attack(`DELETE FROM audit_seals WHERE tenant_id = $1`+where, trailkit.TenantA)
			if cut == "" {
				o.Attack(`DELETE FROM audit_logs WHERE tenant_id = $1`, trailkit.TenantA)
			}
			for _, tenant := range []*uuid.UUID{nil, &trailkit.TenantA, &trailkit.TenantB} {
				r, found := o.Verify(func(v *verify.Options) { v.Tenant = tenant })
				if said := trailkit.Lines(found); r.OK() ||
					!strings.Contains(said, "the head or key that it commits to is gone") {
					t.Errorf("%+v\n%s", r, said)
				} else if tenant == &trailkit.TenantB && strings.Contains(said, trailkit.TenantA.String()) {
					t.Errorf("another tenant is named to one: %s", said)
				}
			}
		})
	}
}

// TestAStrangerCanNotHoldTheLease has other roles try to keep the notary from its work.
func TestAStrangerCanNotHoldTheLease(t *testing.T) {
	o := trailkit.Open(t)
	o.Log(trailkit.TenantA, 1)
	app := testkit.Connect(t, o.URL("konstruct_app"))
	if _, err := app.Exec(t.Context(), `SELECT pg_advisory_lock($1)`, int64(0x6b6f6e73_6e6f7472)); err != nil {
		// once the lease
		t.Fatal(err)
	}
	for _, role := range []string{"konstruct_app", "konstruct_compliance", "konstruct_worker"} {
		for _, mode := range []string{"ACCESS SHARE", "ROW EXCLUSIVE", "EXCLUSIVE"} {
			if _, err := testkit.Connect(t, o.URL(role)).
				Exec(t.Context(), `BEGIN; LOCK TABLE audit_lease IN `+mode+` MODE`); err == nil {
				t.Errorf("%s takes the lease in %s mode", role, mode)
			}
		}
	}
	o.Round()
	owner := testkit.Connect(t, o.URL("konstruct_owner"))
	if _, err := owner.Exec(t.Context(), `BEGIN; LOCK TABLE audit_lease IN EXCLUSIVE MODE`); err != nil {
		t.Fatal(err)
	}
	if err := o.TryRound(); err == nil ||
		!strings.Contains(err.Error(), "somebody who is no notary holds the notary's lease: server process") ||
		!strings.Contains(err.Error(), "konstruct_owner") {
		t.Errorf("a lease that the owner holds: %v", err)
	}
	if _, err := owner.Exec(t.Context(), `ROLLBACK`); err != nil {
		t.Fatal(err)
	}
	o.Round()
}

// TestAnOverdueReceiptIsBrokenAtOnce holds a receipt whose event is in no log against the clock.
func TestAnOverdueReceiptIsBrokenAtOnce(t *testing.T) {
	o := trailkit.Open(t)
	signer, err := o.Config.Keys.Load()
	if err != nil {
		t.Fatal(err)
	}
	o.Log(trailkit.TenantA, 1)
	o.Round()
	id := o.Log(trailkit.TenantA, 1)[0]
	receipt := func(within time.Duration) string {
		r, err := audit.Receipt(t.Context(), o.Door, trailkit.TenantA, id, within)
		if err != nil {
			t.Fatal(err)
		}
		signed, err := signer.Sign(signer.Name, r.Text())
		if err != nil {
			t.Fatal(err)
		}
		return signed
	}
	for within, due := range map[time.Duration]bool{time.Hour: false, -logstore.ClockSlack - time.Second: true} {
		p, err := verify.CheckReceipt(t.Context(), o.Logs, receipt(within), nil, evidence.DefaultFloor)
		if err != nil || p.Due != due || p.OK() == due {
			t.Errorf("promised within %s: %+v, %v", within, p, err)
		}
	}
}

// TestAClockThatSteppedBackHidesNoBackDating restarts the notary after its clock stepped back, and holds that it knows
// its rounds in the order of their transactions, in which a back-dated seal is looked up.
func TestAClockThatSteppedBackHidesNoBackDating(t *testing.T) {
	o := trailkit.Open(t)
	step := time.Duration(0)
	o.Config.Clock = func() time.Time { return time.Now().Add(step) }
	for _, step = range []time.Duration{0, -time.Hour, -30 * time.Minute} {
		o.Log(trailkit.TenantA, 1)
		o.Round()
	}
	for name, read := range map[string]func(context.Context, pgx.Tx) ([]logstore.RoundMark, error){
		"the last": logstore.ReadLastMarks, "all": logstore.ReadMarks} {
		var marks []logstore.RoundMark
		if err := o.Logs.Snapshot(t.Context(), func(tx pgx.Tx) (err error) {
			marks, err = read(t.Context(), tx)
			return err
		}); err != nil {
			t.Fatal(err)
		}
		if len(marks) != 3 || marks[0].XID >= marks[1].XID || marks[1].XID >= marks[2].XID {
			t.Errorf("%s: %+v", name, marks)
		}
		s := logstore.SealedEvent{}
		s.Epoch, s.XID = marks[0].Epoch, marks[0].XID+1
		s.RecordedAt = ledger.MicrosOf(marks[0].At.Add(-30 * time.Minute))
		if what := logstore.CheckDate(marks, &s, time.Now()); !strings.Contains(what, "it was back-dated") {
			t.Errorf("%s: a seal half an hour before the round that ended before it: %q", name, what)
		}
	}
}

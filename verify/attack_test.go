package verify_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/konstruct/konstruct/internal/trailkit"
	"github.com/konstruct/konstruct/ledger"
	"github.com/konstruct/konstruct/logstore"
	"github.com/konstruct/konstruct/notary"
)

// TestEveryAttackOnTheDatabaseIsNamed rewrites history in every way that a superuser can, and holds that
// verification names the event, or the place.
func TestEveryAttackOnTheDatabaseIsNamed(t *testing.T) {
	type target struct {
		o   *trailkit.Trail
		ids []uuid.UUID // of tenant A, in the order of its log
	}
	columns := map[string]string{
		"tenant_id": `'33333333-3333-4333-8333-333333333333'`, "id": `gen_random_uuid()`,
		"agent_id": `gen_random_uuid()`, "user_id": `'adb'`, "action_type": `'llm_calL'`,
		"input_summary": `'Question 5'`, "output_summary": `NULL`,
		"latency_ms": `2`, "metadata": `'{"n": 6}'`, "created_at": `created_at + interval '1 microsecond'`,
	}
	type attack struct {
		name string
		do   func(target)
		want func(target) (event uuid.UUID, what string) // what a finding says, with its place, and of which event
	}
	event := func(i int, what string) func(target) (uuid.UUID, string) {
		return func(x target) (uuid.UUID, string) { return x.ids[i], what }
	}
	place := func(what string) func(target) (uuid.UUID, string) {
		return func(target) (uuid.UUID, string) { return uuid.Nil, what }
	}
	extra := uuid.MustParse("eeeeeeee-0000-4000-8000-000000000001")
	ofExtra := func(what string) func(target) (uuid.UUID, string) {
		return func(target) (uuid.UUID, string) { return extra, what }
	}
	var attacks []attack
	for column, value := range columns {
		want := "was changed after"
		switch column {
		case "created_at":
			want = "created_at, recorded_at, mode or the leaf hash was changed"
		case "tenant_id", "id":
			want = "was sealed and is gone"
		}
		attacks = append(attacks, attack{"one value of " + column, func(x target) {
			x.o.Attack(`UPDATE audit_events SET `+column+` = `+value+` WHERE id = $1`, x.ids[5])
		}, event(5, want)})
	}
	for column, value := range map[string]string{"salt": `sha256(salt)`, "commitments": `commitments || '\x00'`,
		"leaf_hash": `sha256(leaf_hash)`, "mode": `1 - mode`, "recorded_at": `recorded_at - interval '1 day'`} {
		if column == "salt" {
			value = `substr(sha256(salt), 1, 16)`
		}
		attacks = append(attacks, attack{"one value of the seal's " + column, func(x target) {
			x.o.Attack(`UPDATE audit_seals SET `+column+` = `+value+` WHERE event_id = $1`, x.ids[5])
		}, event(5, "does not match its seal")})
	}
	deleteBoth := func(x target, id uuid.UUID) {
		x.o.Attack(`DELETE FROM audit_events WHERE id = $1`, id)
		x.o.Attack(`DELETE FROM audit_seals WHERE event_id = $1`, id)
	}
	attacks = append(attacks,
		attack{"an event deleted", func(x target) {
			x.o.Attack(`DELETE FROM audit_events WHERE id = $1`, x.ids[5])
		}, event(5, "was sealed and is gone")},
		attack{"an event deleted with its seal", func(x target) {
			deleteBoth(x, x.ids[5])
		}, event(5, "its seal is gone: it was removed")},
		attack{"the last event deleted with its seal", func(x target) {
			deleteBoth(x, x.ids[len(x.ids)-1])
		}, event(299, "its seal is gone: it was removed")},
		attack{"an event put in without a seal", func(x target) {
			x.o.Attack(`INSERT INTO audit_events (tenant_id, id, action_type)
				VALUES ($1, 'eeeeeeee-0000-4000-8000-000000000001', 'x')`, trailkit.TenantA)
		}, ofExtra("has no seal")},
		attack{"a row with salt, commitments and leaf recomputed", func(x target) {
			x.o.Attack(`UPDATE audit_events SET input_summary = 'nothing' WHERE id = $1`, x.ids[5])
			x.o.Attack(trailkit.Reseal, x.ids[5])
		}, event(5, "is leaf 5 of the log with another hash than its seal has")},
		attack{"and the tile recomputed too", func(x target) {
			x.o.Attack(`UPDATE audit_events SET input_summary = 'nothing' WHERE id = $1`, x.ids[5])
			x.o.Attack(trailkit.Reseal, x.ids[5])
			x.o.Attack(`UPDATE audit_tiles SET hashes = overlay(hashes placing (SELECT leaf_hash FROM audit_seals
				WHERE event_id = $1) from 5 * 32 + 1) WHERE tenant_id = $2 AND level = 0 AND tile = 0`,
				x.ids[5], trailkit.TenantA)
		}, place("checkpoint of size 100: the leaves lead to another root than was signed: among leaves 0 to 99")},
		attack{"and in the open tile, with the head's root recomputed", func(x target) {
			x.o.Attack(`UPDATE audit_events SET input_summary = 'nothing' WHERE id = $1`, x.ids[299])
			x.o.Attack(trailkit.Reseal, x.ids[299])
			x.o.Attack(`UPDATE audit_heads SET root = sha256('x'), added = overlay(added placing (SELECT leaf_hash
				FROM audit_seals WHERE event_id = $1) from octet_length(added) - 31)
				WHERE tenant_id = $2 AND size = 300`, x.ids[299], trailkit.TenantA)
		}, place("checkpoint of size 300: it was signed with another root or size than its head says")},
		attack{"and the signature taken away", func(x target) {
			x.o.Attack(`UPDATE audit_heads SET root = sha256('x') WHERE tenant_id = $1
				AND size = 300`, trailkit.TenantA)
			x.o.Attack(`DELETE FROM audit_checkpoints WHERE tenant_id = $1 AND size = 300`, trailkit.TenantA)
		}, place("checkpoint of size 300: its signature is gone")},
		attack{"two leaves swapped", func(x target) {
			x.o.Attack(
				`UPDATE audit_tiles SET hashes = substr(hashes, 33, 32) || substr(hashes, 1, 32) || substr(hashes, 65),
					event_ids = substr(event_ids, 17, 16) || substr(event_ids, 1, 16) || substr(event_ids, 33)
			  WHERE tenant_id = $1 AND level = 0 AND tile = 0`, trailkit.TenantA)
		}, place("the leaves lead to another root than was signed")},
		attack{"a tile replaced", func(x target) {
			x.o.Attack(`UPDATE audit_tiles SET hashes = (SELECT string_agg(sha256(int4send(i)), '')
				FROM generate_series(1, 256) i) WHERE tenant_id = $1 AND level = 0`, trailkit.TenantA)
		}, place("tile 0: its hashes lead to another root than it says")},
		attack{"a tile removed", func(x target) {
			x.o.Attack(`DELETE FROM audit_tiles WHERE tenant_id = $1 AND level = 0`, trailkit.TenantA)
		}, place("tile 0: it is missing")},
		attack{"a checkpoint replaced by an older one", func(x target) {
			x.o.Attack(`UPDATE audit_checkpoints SET note = (SELECT note FROM audit_checkpoints
				WHERE tenant_id = $1 AND size = 100) WHERE tenant_id = $1 AND size = 300`, trailkit.TenantA)
		}, place("checkpoint of size 300: it was signed with another root or size than its head says")},
		attack{"a checkpoint of another tenant", func(x target) {
			x.o.Attack(
				`UPDATE audit_checkpoints SET note = (SELECT max(note) FROM audit_checkpoints WHERE tenant_id = $2)
				WHERE tenant_id = $1 AND size = 300`, trailkit.TenantA, trailkit.TenantB)
		}, place("checkpoint of size 300: ")},
		attack{"the key replaced", func(x target) {
			x.o.Attack(`UPDATE audit_keys SET verifier = $1`, otherKey(x.o.T).String())
		}, place("is none of the log's: its key was replaced")},
		attack{"a log cut back to an earlier checkpoint", func(x target) {
			x.o.Attack(`DELETE FROM audit_heads WHERE tenant_id = $1 AND size = 300`, trailkit.TenantA)
			x.o.Attack(`DELETE FROM audit_checkpoints WHERE tenant_id = $1 AND size = 300`, trailkit.TenantA)
			x.o.Attack(`DELETE FROM audit_tiles WHERE tenant_id = $1`, trailkit.TenantA)
			for _, id := range x.ids[100:] {
				deleteBoth(x, id)
			}
		}, place("the head or key that it commits to is gone: a log was cut back")},
		attack{"the super-log cut back as well", func(x target) {
			x.o.Attack(`DELETE FROM audit_heads WHERE tenant_id <> $1 AND anchor >= 3 OR tenant_id = $1 AND size > 3`,
				logstore.Operator)
			x.o.Attack(`DELETE FROM audit_checkpoints WHERE anchor >= 3`)
		}, place("the database was restored to an earlier state")},
		attack{"a back-dated event with a seal of its own", func(x target) {
			x.o.Attack(`INSERT INTO audit_events (tenant_id, id, action_type, created_at)
				VALUES ($1, 'eeeeeeee-0000-4000-8000-000000000001', 'llm_call', '2020-01-01')`, trailkit.TenantA)
			x.o.Attack(
				`INSERT INTO audit_seals (tenant_id, event_id, mode, salt, commitments, leaf_hash, xid, recorded_at)
					SELECT tenant_id, event_id, 0, substr(sha256('s'), 1, 16), '', '', (SELECT min(xid)
					FROM audit_seals), '2020-01-01'
			  FROM (SELECT tenant_id, id AS event_id FROM audit_events WHERE created_at = '2020-01-01') e`)
			x.o.Attack(trailkit.Reseal, extra)
		}, ofExtra("is in no log, although its transaction ended before the last checkpoint")},
	)
	for _, a := range attacks {
		t.Run(a.name, func(t *testing.T) {
			x := target{o: trailkit.Open(t)}
			for _, n := range []int{100, 200} {
				x.ids = append(x.ids, x.o.Log(trailkit.TenantA, n)...)
				x.o.Log(trailkit.TenantB, 3)
				x.o.Round()
			}
			x.o.MustHold()
			a.do(x)
			r, found := x.o.Verify()
			id, what := a.want(x)
			said := false
			for _, f := range found {
				said = said || f.Event == id && strings.Contains(f.Location+": "+f.Problem, what)
			}
			if r.OK() || !said {
				t.Errorf("%+v does not say of event %s %q:\n%s", r, id, what,
					trailkit.Lines(found[:min(len(found), 20)]))
			}
		})
	}
}

// otherKey is a key of the log's name that is not the notary's.
func otherKey(t testing.TB) ledger.Key {
	t.Helper()
	s, err := notary.Keys{File: filepath.Join(t.TempDir(), "key"), Name: trailkit.Name}.Load()
	if err != nil {
		t.Fatal(err)
	}
	return s.Key
}

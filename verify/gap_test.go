package verify_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/konstruct/konstruct/compliance"
	"github.com/konstruct/konstruct/evidence"
	"github.com/konstruct/konstruct/internal/trailkit"
	"github.com/konstruct/konstruct/ledger"
)

// TestUnlawfulGapsAreNamed makes what looks like an erasure or a deletion without an act, and forges acts in bundles.
func TestUnlawfulGapsAreNamed(t *testing.T) {
	o := trailkit.Open(t)
	court := o.Compliance()
	ids := o.Log(trailkit.TenantA, 300)
	if _, err := compliance.Erase(t.Context(), court, trailkit.TenantA,
		compliance.Erasure{Events: ids[:1], Fields: []ledger.Field{ledger.InputSummary},
			Reason: "lawful"}); err != nil {
		t.Fatal(err)
	}
	o.Round()
	o.MustHold()
	honest := o.Bundle(trailkit.TenantA, evidence.Filter{})
	if r := o.Check(honest); !r.OK() {
		t.Fatal(trailkit.Problems(r))
	}
	t.Run("in the database", func(t *testing.T) {
		for _, c := range []struct{ name, sql, want string }{
			{"erased without an act", `WITH e AS (UPDATE audit_events SET output_summary = NULL WHERE id = $1
				RETURNING id) UPDATE audit_seals SET salt = audit_forget(salt, '{5}') WHERE event_id = (SELECT id
				FROM e)`, "lacks its output_summary, and no erasure in the trail says so"},
			{"erased by an act about another field",
				`INSERT INTO audit_erasures SELECT tenant_id, $1, 5, record_id FROM audit_erasures LIMIT 1`,
				"lacks its output_summary, and no erasure in the trail says so"},
			{"written again after it was erased", `UPDATE audit_events SET output_summary = 'forged' WHERE id = $1`,
				"output_summary was erased, and holds something"},
			{"deleted with its seal",
				`WITH e AS (DELETE FROM audit_events WHERE id = $1 RETURNING id) DELETE FROM audit_seals
				WHERE event_id = (SELECT id FROM e)`, "its seal is gone: it was removed"},
		} {
			o.Attack(c.sql, ids[7])
			if r, found := o.Verify(); r.OK() || !strings.Contains(trailkit.Lines(found), c.want) ||
				!strings.Contains(trailkit.Lines(found), ids[7].String()) {
				t.Errorf("%s: verification does not say %q:\n%s", c.name, c.want, trailkit.Lines(found))
			}
		}
		o.Attack(`INSERT INTO audit_gone (tenant_id, first, record_id, bits)
			SELECT $1, 0, gen_random_uuid(), set_bit(decode(repeat('00', 32), 'hex'), n::bigint, 1)
			FROM (SELECT count(*) AS n FROM audit_tiles WHERE false) x`, trailkit.TenantA)
		if r, found := o.Verify(); r.OK() ||
			!strings.Contains(trailkit.Lines(found),
				"leaves from 0 on\": they were deleted, and no act of retention in the trail says so") {
			t.Errorf("a deletion that no act records:\n%s", trailkit.Lines(found))
		}
	})
	t.Run("in a bundle", func(t *testing.T) {
		acts := fileOf(t, honest, "acts")
		for name, c := range map[string]struct {
			bundle []byte
			want   string
		}{
			"the act taken out": {trailkit.EditFile(t, honest, "acts", func([]byte) []byte {
				return nil
			}), ids[0].String()},
			"the act altered": {trailkit.EditFile(t, honest, "acts", func(raw []byte) []byte {
				return bytes.Replace(raw, []byte("lawful"), []byte("Lawful"), 1)
			}), "is not in the tree"},
			"cut off": {trailkit.EditFile(t, honest, "acts", func(raw []byte) []byte {
				return raw[:len(raw)-3]
			}), "cut off"},
			"an event passed off as erased": {trailkit.EditFile(t, honest, "leaves", func(raw []byte) []byte {
				at := bytes.Index(raw, ids[1][:])
				// opened ‖ salt ‖ 01 ‖ length ‖ value of agent_id, which is NULL: erase user_id instead of showing it
				opened := at + 34
				agent := opened + 1 + 32 + 1
				user := 32 + 1 + 4 + len("ada")
				salt := ledger.Hash(raw[agent:])
				hidden := ledger.Commit(salt, ledger.UserID, []byte("ada"), true)
				out := append([]byte{}, raw[:opened]...)
				out = append(out, raw[opened]&^2|0x80, 2)
				out = append(out, raw[opened+1:agent]...)
				return append(append(out, hidden[:]...), raw[agent+user:]...)
			}), "its user_id is said to be erased, and no act in the log says so"},
			"an event passed off as deleted": {trailkit.EditFile(t, honest, "leaves", func(raw []byte) []byte {
				at, next := bytes.Index(raw, ids[1][:]), bytes.Index(raw, ids[2][:])
				leaf := trailkit.One[[]byte](o,
					`SELECT substr(hashes, 33, 32) FROM audit_tiles WHERE tenant_id = $1 AND tile = 0 AND level = 0`,
					trailkit.TenantA)
				gone := ledger.Record{ID: ids[1], Gone: true, Leaf: ledger.Hash(leaf)}
				return append(gone.AppendBinary(append([]byte{}, raw[:at]...)), raw[next:]...)
			}), "is said to be deleted, and no act in the log says so"},
		} {
			if r := o.Check(c.bundle); r.OK() || !strings.Contains(trailkit.Problems(r), c.want) {
				t.Errorf("%s: it does not say %q:\n%s", name, c.want, trailkit.Problems(r))
			}
		}
		if len(acts) == 0 {
			t.Error("no acts")
		}
	})
}

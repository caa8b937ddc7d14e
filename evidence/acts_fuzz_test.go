package evidence

import (
	"bufio"
	"bytes"
	"testing"

	"github.com/konstruct/konstruct/ledger"
)

// FuzzActs parses acts with any metadata, and judges them as if they were proven.
func FuzzActs(f *testing.F) {
	for _, metadata := range []string{`{"events":["11111111-1111-4111-8111-111111111111"],"fields":["user_id"],` +
		`"approved_by":"bob"}`, `{"first_leaf":9223372036854775807,"leaves":"/////w=="}`,
		`{"first_leaf":-1,"leaves":"AA=="}`, `{}`} {
		for _, action := range []string{ActionErasure, ActionRetention, "x"} {
			e := ledger.Event{ActionType: action, Metadata: metadata}
			values, commitments, salts := e.Values(), e.Commitments([16]byte{1}), ledger.WholeSalt([16]byte{1})
			var r ledger.Record
			r.Show(&values, &salts, &commitments, func(ledger.Field) bool { return true })
			f.Add(appendAct(nil, 3, []ledger.Hash{{1}}, &r))
		}
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		c := &bundleCheck{Result: &Result{}, last: ledger.Checkpoint{Origin: "x", Size: 5}}
		if err := c.readActs(bufio.NewReader(bytes.NewReader(raw))); err == nil && len(raw) > 0 && c.Count == 0 {
			t.Error("what is in no tree is believed")
		}
		if len(raw) < 9 {
			return
		}
		var r ledger.Record
		skip := 9 + int(raw[8])*len(ledger.Hash{})
		if len(raw) < skip || r.Read(bufio.NewReader(bytes.NewReader(raw[skip:]))) != nil {
			return
		}
		a, err := readAct(&r)
		if err != nil || c.act(a) != nil {
			return
		}
		_ = a.String()
		for _, index := range []int64{0, a.kind.FirstLeaf, a.kind.FirstLeaf + 7, 1 << 62} {
			c.checkActs(&ledger.Record{Gone: true}, index)
		}
		c.checkActs(&ledger.Record{Erased: 1<<ledger.Fields - 1}, 0)
	})
}

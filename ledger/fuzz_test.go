package ledger_test

import (
	"bufio"
	"bytes"
	"crypto/ed25519"
	"crypto/x509"
	"math/big"
	"testing"

	"github.com/konstruct/konstruct/ledger"
)

// FuzzRecordBytes checks that bytes that are read as a record are written back unchanged and lead to the same leaf.
func FuzzRecordBytes(f *testing.F) {
	e := ledger.Event{ActionType: "x", Metadata: "{}"}
	v, c := e.Values(), e.Commitments([16]byte{1})
	for _, open := range []func(ledger.Field) bool{func(ledger.Field) bool {
		return true
	}, func(ledger.Field) bool { return false }, func(f ledger.Field) bool { return f == ledger.ActionType }} {
		var r ledger.Record
		salts := ledger.WholeSalt([16]byte{1})
		r.Show(&v, &salts, &c, open)
		if r.Hash() != ledger.LeafHash(e.Leaf(0, 0, c)) {
			f.Fatal("a record does not lead to its event's leaf")
		}
		f.Add(r.AppendBinary(nil))
	}
	// A record with two erased fields, and a deleted one.
	stored := []byte{1<<(ledger.UserID-1) | 1<<(ledger.Metadata-1)}
	for n := ledger.AgentID; n <= ledger.Metadata; n++ {
		salt := ledger.FieldSalt([16]byte{1}, n)
		if n == ledger.UserID || n == ledger.Metadata {
			salt = ledger.Hash{}
		}
		stored = append(stored, salt[:]...)
	}
	salts, err := ledger.ReadSalts(stored)
	if err != nil || salts.Erased().String() != "user_id, metadata" {
		f.Fatal(err, salts.Erased())
	}
	var r ledger.Record
	r.Show(&v, &salts, &c, func(ledger.Field) bool { return true })
	if r.Hash() != ledger.LeafHash(e.Leaf(0, 0, c)) || r.Shown[ledger.Metadata-1].Open || v.Recommit(&salts, &c) != c {
		f.Fatal("an erased event does not lead to its leaf")
	}
	f.Add(r.AppendBinary(nil))
	gone := ledger.Record{ID: [16]byte{2}, Gone: true, Leaf: r.Hash()}
	f.Add(gone.AppendBinary(nil))
	f.Fuzz(func(t *testing.T, raw []byte) {
		var r ledger.Record
		if err := r.Read(bufio.NewReader(bytes.NewReader(raw))); err != nil {
			return
		}
		if again := r.AppendBinary(nil); !bytes.HasPrefix(raw, again) {
			t.Errorf("%x is read, and written as %x", raw, again)
		}
	})
}

// FuzzNotes checks that checkpoints, receipts, keys and signed notes are either refused or written back unchanged.
func FuzzNotes(f *testing.F) {
	s, err := ledger.NewSigner("konstruct.example/test", ed25519.NewKeyFromSeed(make([]byte, 32)))
	if err != nil {
		f.Fatal(err)
	}
	c := ledger.Checkpoint{Origin: s.Name, Size: 7}
	note, err := s.Sign(s.Name, c.Text())
	if err != nil {
		f.Fatal(err)
	}
	receipt, err := s.Sign(s.Name, ledger.Receipt{}.Text())
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range []string{c.Text(), note, receipt, s.Key.String(), s.Private(), ledger.Receipt{}.Text()} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		if got, err := ledger.ParseCheckpoint(raw); err == nil && got.Text() != raw {
			t.Errorf("checkpoint %q is written as %q", raw, got.Text())
		}
		if got, err := ledger.OpenCheckpoint(raw, s.Key); err == nil && (got != c) {
			t.Errorf("a checkpoint that was not signed is believed: %+v", got)
		}
		if got, err := ledger.ReadReceipt(raw, s.Key); err == nil && got != (ledger.Receipt{}) {
			t.Errorf("a receipt that was not signed is believed: %+v", got)
		}
		if k, err := ledger.ParseKey(raw); err == nil {
			if again, err := ledger.ParseKey(k.String()); err != nil || !again.Equal(k) {
				t.Errorf("key %q: %v", raw, err)
			}
		}
		if p, err := ledger.ParseSigner(raw); err == nil {
			if again, err := ledger.ParseSigner(p.Private()); err != nil || !again.Equal(p.Key) {
				t.Errorf("private key: %v", err)
			}
		}
	})
}

// FuzzTilePath checks that a tile has exactly one path.
func FuzzTilePath(f *testing.F) {
	for _, p := range []string{"tile/0/000", "tile/1/x001/234.p/5", "tile/entries/000.p/1", "tile/8/0/000"} {
		f.Add(p)
	}
	f.Fuzz(func(t *testing.T, path string) {
		if tile, ok := ledger.ParseTilePath(path); ok && ledger.TilePath(tile) != path {
			t.Errorf("%q is read as %q", path, ledger.TilePath(tile))
		}
	})
}

// FuzzTimestamp gives the time-stamp parsers any bytes. Without roots no token verifies.
func FuzzTimestamp(f *testing.F) {
	request, err := ledger.TimestampRequest("text", big.NewInt(7))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(request)
	f.Add([]byte{0x30, 0x80})
	f.Fuzz(func(t *testing.T, raw []byte) {
		_, _ = ledger.TimestampToken(raw)
		if _, err := ledger.VerifyTimestamp(raw, "text", x509.NewCertPool()); err == nil {
			t.Error("a token of nobody's is believed")
		}
	})
}

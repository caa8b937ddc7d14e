package evidence_test

import (
	"archive/zip"
	"bytes"
	"encoding/json"
	"testing"

	"github.com/konstruct/konstruct/evidence"
	"github.com/konstruct/konstruct/ledger"
)

// bundle returns a zip with a bundle's files.
func bundle(t testing.TB, manifest, leaves, summary []byte, more ...string) []byte {
	t.Helper()
	var out bytes.Buffer
	z := zip.NewWriter(&out)
	for _, f := range []struct {
		name string
		raw  []byte
	}{{"leaves", leaves}, {"summary.html", summary}, {"manifest.json", manifest}} {
		w, err := z.CreateHeader(&zip.FileHeader{Name: f.name})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(f.raw); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range more {
		if _, err := z.CreateHeader(&zip.FileHeader{Name: name}); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

var stranger = ledger.Key{Name: "konstruct.example/test", Public: make([]byte, 32)}

// FuzzBundle gives the verifier bundles with any content: it must not crash, take long, or accept anything.
func FuzzBundle(f *testing.F) {
	m, err := json.MarshalIndent(evidence.Manifest{Version: "konstruct/evidence/v1",
		Tenant: "11111111-1111-4111-8111-111111111111", Keys: []evidence.Key{{Key: stranger.String()}},
		To: evidence.Head{Checkpoint: "x"}, LastSigned: evidence.Head{Checkpoint: "x"}}, "", "  ")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(m, []byte("leaves"), []byte("<html>"))
	f.Add([]byte(`{"version":"konstruct/evidence/v1","before":["`+string(bytes.Repeat([]byte("A"), 43))+`="]}`),
		[]byte{}, []byte{})
	f.Fuzz(func(t *testing.T, manifest, leaves, summary []byte) {
		raw := bundle(t, manifest, leaves, summary)
		r, err := evidence.Verify(bytes.NewReader(raw), int64(len(raw)), evidence.Trust{Key: stranger})
		if err == nil && r.OK() {
			t.Errorf("it is believed: %q", manifest)
		}
	})
}

// FuzzZip gives the verifier any bytes as a zip.
func FuzzZip(f *testing.F) {
	f.Add(bundle(f, []byte("{}"), nil, nil))
	f.Add(bundle(f, []byte("{}"), nil, nil, "../../etc/passwd"))
	f.Add(bundle(f, []byte("{}"), nil, nil, "leaves"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if r, err := evidence.Verify(bytes.NewReader(raw), int64(len(raw)),
			evidence.Trust{Key: stranger}); err == nil && r.OK() {
			t.Error("it is believed")
		}
	})
}

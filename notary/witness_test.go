package notary_test

import (
	"context"
	"crypto/rand"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	cosign "github.com/transparency-dev/formats/note"
	"github.com/transparency-dev/witness/persistence/inmemory"
	"github.com/transparency-dev/witness/witness"
	"golang.org/x/mod/sumdb/note"

	"github.com/konstruct/konstruct/evidence"
	"github.com/konstruct/konstruct/ledger"
	"github.com/konstruct/konstruct/logstore"
	"github.com/konstruct/konstruct/notary"
)

// realWitness runs transparency-dev's witness, which knows our log by its key, and returns it as we know it.
func realWitness(t *testing.T, name string, log func() ledger.Key) (notary.Witness, *witness.Witness) {
	t.Helper()
	skey, vkey, err := note.GenerateKey(rand.Reader, name)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := cosign.NewSignerForCosignatureV1(skey)
	if err != nil {
		t.Fatal(err)
	}
	cosigner, err := cosign.VKeyToCosignatureV1(vkey)
	if err != nil {
		t.Fatal(err)
	}
	w, err := witness.New(t.Context(), witness.Opts{Persistence: inmemory.New(), Signers: []note.Signer{signer},
		VerifierForLog: func(_ context.Context, origin string) (note.Verifier, bool, error) {
			k := log()
			v, err := k.Verifier()
			return v, origin == k.Name, err
		}})
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /add-checkpoint", witness.NewHTTPHandler(w).AddCheckpoint)
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	ours, err := notary.NewWitness(cosigner + " " + server.URL)
	if err != nil {
		t.Fatal(err)
	}
	return ours, w
}

// TestARealWitnessCosigns holds that a witness that is not ours accepts checkpoints and consistency proofs, that its
// signature reaches the evidence, and that whoever is unavailable delays nothing.
func TestARealWitnessCosigns(t *testing.T) {
	o := open(t)
	o.key() // made before the witness knows it
	a, _ := realWitness(t, "witness.example/a", o.key)
	b, _ := realWitness(t, "witness.example/b", o.key)
	release := make(chan struct{})
	hangs := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		<-release
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
	t.Cleanup(hangs.Close)
	gone, _ := realWitness(t, "witness.example/gone", o.key)
	gone.URL = hangs.URL
	o.c.Witnesses = []notary.Witness{a, b, gone}
	n, err := notary.New(o.c)
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	begin := time.Now()
	for range 3 {
		o.log(tenantA, 300)
		if _, err := n.Round(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("three rounds took %v while a witness hangs", took)
	}
	close(release)
	n.Close()
	trust := func(quorum int, all ...notary.Witness) func(*evidence.Trust) {
		return func(t *evidence.Trust) {
			t.Quorum = quorum
			for _, w := range all {
				t.Witnesses = append(t.Witnesses, w.Verifier)
			}
		}
	}
	made := o.bundle(tenantA, evidence.Filter{})
	if r := o.check(made, trust(2, a, b)); !r.OK() || len(r.Witnesses) != 2 || r.Matching != 900 {
		t.Errorf("%+v\n%s", r, problems(r))
	}
	if r := o.check(made, trust(2, a, gone)); r.OK() ||
		!strings.Contains(problems(r), "1 of the witnesses you trust cosigned, and 2 must have") {
		t.Errorf("a quorum with one that was gone: %s", problems(r))
	}
	stripped := manifest(t, made, func(m *evidence.Manifest) {
		m.Super = m.Super[:strings.Index(m.Super, "— "+b.Verifier.Name())]
	})
	if r := o.check(stripped, trust(2, a, b)); r.OK() ||
		!strings.Contains(problems(r), "1 of the witnesses you trust cosigned, and 2 must have") {
		t.Errorf("a stripped signature: %s", problems(r))
	}
}

// TestAWitnessThatSawMoreStopsTheNotary takes a database back where nothing but a witness remembers.
func TestAWitnessThatSawMoreStopsTheNotary(t *testing.T) {
	o := open(t)
	o.key()
	a, _ := realWitness(t, "witness.example/a", o.key)
	o.c.Witnesses = []notary.Witness{a}
	o.log(tenantA, 5)
	o.round()
	later := *o
	other := openOn(t, mustClone(t, o.idle()))
	o.log(tenantA, 5)
	o.round()
	o.log(tenantA, 5)
	o.round()
	other.c.Keys, other.c.Witnesses = later.c.Keys, later.c.Witnesses
	if _, err := notary.Resume(t.Context(), other.c, true); err != nil { // the file outside is gone, and believed to be
		t.Fatal(err)
	}
	n, err := notary.New(other.c)
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	other.log(tenantA, 5)
	heads := one[int](other, `SELECT count(*) FROM audit_heads`)
	for range 3 { // not one is signed before the witness is asked
		if _, err := n.Round(t.Context()); !errors.Is(err, logstore.ErrRefused) ||
			!strings.Contains(err.Error(), "has cosigned the super-log at size 4, and here it has 2") {
			t.Errorf("a round of a database that was taken back: %v", err)
		}
	}
	if after := one[int](other, `SELECT count(*) FROM audit_heads`); after != heads {
		t.Errorf("%d heads were made", after-heads)
	}
}

// TestAWitnessIsTheCopyOutside has nothing but a witness remember what was signed.
func TestAWitnessIsTheCopyOutside(t *testing.T) {
	o := open(t)
	o.key()
	a, _ := realWitness(t, "witness.example/a", o.key)
	o.c.Anchor = notary.WitnessAnchor{DB: o.db, Witness: a}
	for range 3 {
		o.log(tenantA, 300)
		o.round()
	}
	o.honest()
	if r := o.check(o.bundle(tenantA, evidence.Filter{}), func(t *evidence.Trust) {
		t.Quorum, t.Witnesses = 1, []note.Verifier{a.Verifier}
	}); !r.OK() {
		t.Error(problems(r))
	}
	back := openOn(t, mustClone(t, o.idle()))
	o.c.Anchor = notary.WitnessAnchor{DB: o.db, Witness: a}
	o.log(tenantA, 1)
	o.round()
	back.c.Keys, back.c.Anchor = o.c.Keys, notary.WitnessAnchor{DB: back.db, Witness: a}
	back.log(tenantA, 1)
	if err := back.tryRound(); err == nil {
		t.Error("another history of the same size is signed")
	}
	back.log(tenantB, 1)
	back.log(tenantA, 1)
	for range 2 {
		if err := back.tryRound(); err == nil {
			t.Error("another history is signed")
		}
	}
	if n := one[int](back, `SELECT count(*) FROM audit_checkpoints WHERE size > 900 AND tenant_id = $1`,
		tenantA); n != 0 {
		t.Errorf("%d signatures of another history are stored", n)
	}
	o.log(tenantA, 1)
	o.round()
	o.honest()
}

package notary_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
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
	"github.com/konstruct/konstruct/internal/trailkit"
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
// signature reaches the evidence, and that an unavailable witness delays nothing.
func TestARealWitnessCosigns(t *testing.T) {
	o := trailkit.Open(t)
	o.Key() // made before the witness knows it
	a, _ := realWitness(t, "witness.example/a", o.Key)
	b, _ := realWitness(t, "witness.example/b", o.Key)
	release := make(chan struct{})
	hangs := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		<-release
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
	t.Cleanup(hangs.Close)
	gone, _ := realWitness(t, "witness.example/gone", o.Key)
	gone.URL = hangs.URL
	o.Config.Witnesses = []notary.Witness{a, b, gone}
	n, err := notary.New(o.Config)
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	begin := time.Now()
	for range 3 {
		o.Log(trailkit.TenantA, 300)
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
	made := o.Bundle(trailkit.TenantA, evidence.Filter{})
	if r := o.Check(made, trust(2, a, b)); !r.OK() || len(r.Witnesses) != 2 || r.Matching != 900 {
		t.Errorf("%+v\n%s", r, trailkit.Problems(r))
	}
	if r := o.Check(made, trust(2, a, gone)); r.OK() ||
		!strings.Contains(trailkit.Problems(r), "1 of the witnesses you trust cosigned, and 2 must have") {
		t.Errorf("a quorum with one that was gone: %s", trailkit.Problems(r))
	}
	stripped := trailkit.EditManifest(t, made, func(m *evidence.Manifest) {
		m.Super = m.Super[:strings.Index(m.Super, "— "+b.Verifier.Name())]
	})
	if r := o.Check(stripped, trust(2, a, b)); r.OK() ||
		!strings.Contains(trailkit.Problems(r), "1 of the witnesses you trust cosigned, and 2 must have") {
		t.Errorf("a stripped signature: %s", trailkit.Problems(r))
	}
}

// TestAWitnessThatSawMoreStopsTheNotary rolls a database back together with its anchor; only a witness has seen more.
func TestAWitnessThatSawMoreStopsTheNotary(t *testing.T) {
	o := trailkit.Open(t)
	o.Key()
	a, _ := realWitness(t, "witness.example/a", o.Key)
	o.Config.Witnesses = []notary.Witness{a}
	o.Log(trailkit.TenantA, 5)
	o.Round()
	later := *o
	other := trailkit.OpenOn(t, mustClone(t, o.IdleConnections()))
	o.Log(trailkit.TenantA, 5)
	o.Round()
	o.Log(trailkit.TenantA, 5)
	o.Round()
	other.Config.Keys, other.Config.Witnesses = later.Config.Keys, later.Config.Witnesses
	if _, err := notary.Resume(t.Context(), other.Config, true); err != nil {
		// the anchor's file is missing, and Resume trusts the database
		t.Fatal(err)
	}
	n, err := notary.New(other.Config)
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	other.Log(trailkit.TenantA, 5)
	heads := trailkit.One[int](other, `SELECT count(*) FROM audit_heads`)
	for range 3 { // none is signed before the witness is asked
		if _, err := n.Round(t.Context()); !errors.Is(err, logstore.ErrRefused) ||
			!strings.Contains(err.Error(), "has cosigned the super-log at size 4, and here it has 2") {
			t.Errorf("a round of a database that was taken back: %v", err)
		}
	}
	if after := trailkit.One[int](other, `SELECT count(*) FROM audit_heads`); after != heads {
		t.Errorf("%d heads were made", after-heads)
	}
}

// TestAWitnessIsTheAnchor has a witness as the anchor.
func TestAWitnessIsTheAnchor(t *testing.T) {
	o := trailkit.Open(t)
	o.Key()
	a, _ := realWitness(t, "witness.example/a", o.Key)
	o.Config.Anchor = notary.WitnessAnchor{DB: o.Logs, Witness: a}
	for range 3 {
		o.Log(trailkit.TenantA, 300)
		o.Round()
	}
	o.MustHold()
	if r := o.Check(o.Bundle(trailkit.TenantA, evidence.Filter{}), func(t *evidence.Trust) {
		t.Quorum, t.Witnesses = 1, []note.Verifier{a.Verifier}
	}); !r.OK() {
		t.Error(trailkit.Problems(r))
	}
	back := trailkit.OpenOn(t, mustClone(t, o.IdleConnections()))
	o.Config.Anchor = notary.WitnessAnchor{DB: o.Logs, Witness: a}
	o.Log(trailkit.TenantA, 1)
	o.Round()
	back.Config.Keys, back.Config.Anchor = o.Config.Keys, notary.WitnessAnchor{DB: back.Logs, Witness: a}
	back.Log(trailkit.TenantA, 1)
	if err := back.TryRound(); err == nil {
		t.Error("another history of the same size is signed")
	}
	back.Log(trailkit.TenantB, 1)
	back.Log(trailkit.TenantA, 1)
	for range 2 {
		if err := back.TryRound(); err == nil {
			t.Error("another history is signed")
		}
	}
	if n := trailkit.One[int](back, `SELECT count(*) FROM audit_checkpoints WHERE size > 900 AND tenant_id = $1`,
		trailkit.TenantA); n != 0 {
		t.Errorf("%d signatures of another history are stored", n)
	}
	o.Log(trailkit.TenantA, 1)
	o.Round()
	o.MustHold()
}

// TestAWitnessBecomesTheAnchorOfAnExistingLog begins with a file as the anchor, and gives the log a witness that has
// never seen it.
func TestAWitnessBecomesTheAnchorOfAnExistingLog(t *testing.T) {
	o := trailkit.Open(t)
	o.Log(trailkit.TenantA, 300)
	o.Round()
	a, _ := realWitness(t, "witness.example/a", o.Key)
	behind, first := a.URL, true
	// This witness takes any size from a log that it has not seen; the protocol has others answer with their 0.
	strict := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if first && !bytes.HasPrefix(body, []byte("old 0\n")) {
			w.WriteHeader(http.StatusConflict)
			fmt.Fprintln(w, 0)
			return
		}
		first = false
		resp, err := http.Post(behind+r.URL.Path, "", bytes.NewReader(body))
		if err != nil {
			t.Error(err)
			return
		}
		defer resp.Body.Close()
		w.WriteHeader(resp.StatusCode)
		_, _ = io.Copy(w, resp.Body)
	}))
	t.Cleanup(strict.Close)
	a.URL = strict.URL
	o.Config.Anchor = notary.WitnessAnchor{DB: o.Logs, Witness: a}
	for range 2 {
		o.Log(trailkit.TenantA, 3)
		o.Round()
	}
	o.MustHold()
}

// TestAWitnessThatCosignedBeforeAKillGoesOn kills the notary after its witness has cosigned and before the database has
// the checkpoint, and logs more before the next start.
func TestAWitnessThatCosignedBeforeAKillGoesOn(t *testing.T) {
	o := trailkit.Open(t)
	o.Key()
	a, _ := realWitness(t, "witness.example/a", o.Key)
	anchor := notary.WitnessAnchor{DB: o.Logs, Witness: a}
	o.Config.Anchor = anchor
	o.Log(trailkit.TenantA, 3)
	o.Round()
	o.Log(trailkit.TenantA, 3)
	o.Config.Anchor = dying{anchor, true}
	if err := o.TryRound(); !errors.Is(err, errKilled) {
		t.Fatalf("a round that is killed: %v", err)
	}
	o.Config.Anchor = anchor
	o.Log(trailkit.TenantA, 3)
	o.Round()
	o.MustHold()
}

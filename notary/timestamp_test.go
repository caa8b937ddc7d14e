package notary_test

import (
	"crypto/x509"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/konstruct/konstruct/evidence"
	"github.com/konstruct/konstruct/internal/trailkit"
	"github.com/konstruct/konstruct/ledger"
	"github.com/konstruct/konstruct/notary"
)

const opensslConfig = `
[req]
distinguished_name = dn
[dn]
[ca]
basicConstraints = critical, CA:true
[tsa]
extendedKeyUsage = critical, timeStamping
[ts]
default_tsa = ts1
[ts1]
serial = %[1]s/serial
signer_digest = sha256
default_policy = 1.2.3.4.1
digests = sha256
accuracy = secs:1
ordering = yes
tsa_name = yes
`

// authority is a real time-stamping authority, openssl ts, with a root of its own; keyType is for openssl genpkey.
func authority(t *testing.T, keyType ...string) (url, root string) {
	t.Helper()
	dir := t.TempDir()
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("serial", "01\n")
	write("config", fmt.Sprintf(opensslConfig, dir))
	openssl := func(args ...string) []byte {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), "openssl", args...)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("openssl %v: %v\n%s", args, err, out)
		}
		return out
	}
	openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "ca.key", "-out", "ca.pem", "-days", "2",
		"-subj", "/CN=test root", "-config", "config", "-extensions", "ca")
	openssl(append([]string{"genpkey", "-out", "tsa.key"}, keyType...)...)
	openssl("req", "-new", "-key", "tsa.key", "-out", "tsa.csr", "-subj", "/CN=test authority", "-config", "config")
	openssl("x509", "-req", "-in", "tsa.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2",
		"-out", "tsa.pem", "-extfile", "config", "-extensions", "tsa")
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		raw, err := io.ReadAll(r.Body)
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, "query"), raw, 0o600)
		}
		cmd := exec.CommandContext(r.Context(), "openssl", "ts", "-reply", "-config", "config", "-section", "ts1",
			"-queryfile", "query", "-signer", "tsa.pem", "-inkey", "tsa.key", "-out", "reply")
		cmd.Dir = dir
		if out, cmdErr := cmd.CombinedOutput(); err != nil || cmdErr != nil {
			http.Error(w, fmt.Sprintf("%v %v %s", err, cmdErr, out), http.StatusInternalServerError)
			return
		}
		raw, _ = os.ReadFile(filepath.Join(dir, "reply"))
		_, _ = w.Write(raw)
	}))
	t.Cleanup(server.Close)
	return server.URL, filepath.Join(dir, "ca.pem")
}

func pool(t *testing.T, file string) *x509.CertPool {
	t.Helper()
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	p := x509.NewCertPool()
	if !p.AppendCertsFromPEM(raw) {
		t.Fatal("no certificate")
	}
	return p
}

func TestARealAuthorityStamps(t *testing.T) {
	o := trailkit.Open(t)
	url, root := authority(t, "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048")
	otherURL, otherRoot := authority(t, "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256")
	o.Config.Authority = &notary.Authority{URL: url, Roots: pool(t, root), Every: time.Nanosecond}
	o.Config.Logger = slog.New(slog.NewTextHandler(t.Output(), nil))
	begin := time.Now().Add(-time.Second)
	o.Log(trailkit.TenantA, 5)
	o.Round() // closing waits for the stamp
	o.Config.Authority = nil
	o.Log(trailkit.TenantB, 1)
	o.Round() // the super-log goes on from the stamped size
	made := o.Bundle(trailkit.TenantA, evidence.Filter{})
	believe := func(file string) func(*evidence.Trust) {
		return func(tr *evidence.Trust) { tr.Authorities = pool(t, file) }
	}
	r := o.Check(made, believe(root))
	if !r.OK() || r.Stamped.Before(begin.Truncate(time.Second)) ||
		!strings.Contains(strings.Join(r.Holds, "\n"), "existed by") {
		t.Errorf("%+v\n%s", r, trailkit.Problems(r))
	}
	for name, c := range map[string]struct {
		bundle []byte
		root   string
		want   string
	}{
		"another root": {made, otherRoot, "the authority CN=test authority"},
		"a changed one": {trailkit.EditManifest(t, made, func(m *evidence.Manifest) {
			m.Stamp.Token[len(m.Stamp.Token)-1] ^= 1
		}), root, "signed it"},
		"another tree": {trailkit.EditManifest(t, made, func(m *evidence.Manifest) {
			m.Stamp.Root[0] ^= 1
		}), root, "does not go on from"},
		"none": {trailkit.EditManifest(t, made, func(m *evidence.Manifest) {
			m.Stamp = nil
		}), root, "the bundle has none"},
	} {
		if r := o.Check(c.bundle, believe(c.root)); r.OK() || !strings.Contains(trailkit.Problems(r), c.want) {
			t.Errorf("%s: it does not say %q: %s", name, c.want, trailkit.Problems(r))
		}
	}
	// Elliptic curves too; no byte of a token can be changed so that it says something else.
	text := "konstruct.example/test\n1\nAAAA\n"
	request, err := ledger.TimestampRequest(text, big.NewInt(7))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.Post(otherURL, "application/timestamp-query", strings.NewReader(string(request)))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	token, err := ledger.TimestampToken(raw)
	if err != nil {
		t.Fatal(err)
	}
	roots := pool(t, otherRoot)
	if ts, err := ledger.VerifyTimestamp(token, text, roots); err != nil || ts.Nonce.Int64() != 7 {
		t.Errorf("%+v, %v", ts, err)
	}
	if _, err := ledger.VerifyTimestamp(token, text+" ", roots); err == nil ||
		!strings.Contains(err.Error(), "of another text") {
		t.Errorf("another text: %v", err)
	}
	for i := range token {
		forged := append([]byte{}, token...)
		forged[i] ^= 0x55
		if ts, err := ledger.VerifyTimestamp(forged, text, roots); err == nil && !sameTime(ts, token, text, roots) {
			t.Errorf("byte %d changed: it says %+v", i, ts)
		}
	}
}

// sameTime reports whether a changed token that verifies has the original's content: bytes outside the signature may
// differ.
func sameTime(ts ledger.Timestamp, token []byte, text string, roots *x509.CertPool) bool {
	honest, err := ledger.VerifyTimestamp(token, text, roots)
	return err == nil && honest.At.Equal(ts.At) && honest.Authority == ts.Authority
}

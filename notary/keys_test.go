package notary_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/konstruct/konstruct/internal/trailkit"
	"github.com/konstruct/konstruct/notary"
)

// TestKeysComeFromWhereTheyAreKept reads a key from a file that is made, from PEM as openssl writes it, and from the
// environment.
func TestKeysComeFromWhereTheyAreKept(t *testing.T) {
	dir := t.TempDir()
	made := notary.Keys{File: filepath.Join(dir, "new", "key"), Name: trailkit.Name}
	if _, err := made.Read(); !errors.Is(err, notary.ErrNoKey) {
		t.Errorf("before it is made: %v", err)
	}
	first, err := made.Load()
	if err != nil {
		t.Fatal(err)
	}
	again, err := made.Load()
	if err != nil || !again.Equal(first.Key) {
		t.Errorf("the second time it is %v, %v", again, err)
	}
	if info, err := os.Stat(made.File); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("its mode: %v, %v", info.Mode(), err)
	}
	if env, err := (notary.Keys{Value: first.Private()}).Load(); err != nil || !env.Equal(first.Key) {
		t.Errorf("from the environment: %v", err)
	}
	pemOf := func(key any) string {
		raw, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw}))
	}
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if s, err := (notary.Keys{Value: pemOf(private), Name: trailkit.Name}).Load(); err != nil ||
		!s.Public.Equal(public) ||
		s.Name != trailkit.Name {
		t.Errorf("from PEM: %+v, %v", s, err)
	}
	other, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for what, c := range map[string]struct {
		keys notary.Keys
		want string
	}{
		"PEM without a name": {notary.Keys{Value: pemOf(private)}, "set KONSTRUCT_NOTARY_NAME"},
		"RSA":                {notary.Keys{Value: pemOf(other), Name: trailkit.Name}, "it must be Ed25519"},
		"nonsense":           {notary.Keys{Value: "hello"}, "not a private key in signed-note form"},
		"another name":       {notary.Keys{Value: first.Private(), Name: "example.com/other"}, "a log keeps its name"},
		"a bad name": {notary.Keys{File: filepath.Join(dir, "bad"), Name: "two words"},
			"without space and plus"},
		"a wrong hash": {notary.Keys{Value: strings.Replace(first.Private(), "test+", "test+0", 1)},
			"hash is not its name's"},
	} {
		if _, err := c.keys.Load(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", what, err, c.want)
		}
	}
}

// TestAnUnreadableNextKeyIsAnError holds that a rotation whose key can't be read is reported, not forgotten.
func TestAnUnreadableNextKeyIsAnError(t *testing.T) {
	o := trailkit.Open(t)
	o.Log(trailkit.TenantA, 1)
	o.Round()
	next, err := o.Config.Keys.Rotate()
	if err != nil {
		t.Fatal(err)
	}
	file := o.Config.Keys.File + ".next"
	if err := os.Chmod(file, 0o644); err != nil {
		t.Fatal(err)
	}
	o.Log(trailkit.TenantA, 1)
	if _, err := o.Config.Keys.Next(); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("the next key: %v", err)
	}
	if err := o.TryRound(); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("a round: %v", err)
	}
	if err := os.Chmod(file, 0o600); err != nil {
		t.Fatal(err)
	}
	o.Round()
	if now := o.Key(); !now.Equal(next.Key) {
		t.Errorf("the key is %s, not %s", now, next)
	}
	o.MustHold()
}

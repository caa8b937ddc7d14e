package notary

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/konstruct/konstruct/blob"
	"github.com/konstruct/konstruct/ledger"
)

// Keys locates the notary's private key.
type Keys struct {
	// File holds the key in signed-note form or as PKCS#8 PEM, readable by its owner only. A missing file is created.
	// During a rotation, the next key is in the same folder under the name File + ".next".
	File string
	// Value is the key itself, from the environment; File is then ignored.
	Value string
	// Name is the name of the notary and its super-log. A new key and a PEM key, which has no name, need it. It is the
	// prefix of every log's name. Best is a domain name of yours with a path: example.com/audit.
	Name string
}

// ErrNoKey means that the notary has no key yet.
var ErrNoKey = errors.New("the notary has no key yet")

// Load returns the current key, and creates one if there is none.
func (k Keys) Load() (*ledger.Signer, error) {
	s, err := k.Read()
	if errors.Is(err, ErrNoKey) {
		return k.create(k.File, k.Name)
	}
	return s, err
}

// Read returns the current key, or ErrNoKey.
func (k Keys) Read() (*ledger.Signer, error) {
	if k.Value != "" {
		return k.parse("the environment", k.Value)
	}
	if k.File == "" {
		return nil, fmt.Errorf("%w: give it a file (KONSTRUCT_NOTARY_KEY_FILE)", ErrNoKey)
	}
	return k.read(k.File)
}

func (k Keys) read(path string) (*ledger.Signer, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: there is no %s", ErrNoKey, path)
	}
	if err != nil {
		return nil, fmt.Errorf("read the notary's key: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil,
			fmt.Errorf("the notary's key %s can be read by others than its owner: chmod 600 it, and consider who has "+
				"read it", path)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the notary's key: %w", err)
	}
	return k.parse(path, string(raw))
}

func (k Keys) parse(where, text string) (*ledger.Signer, error) {
	if block, _ := pem.Decode([]byte(text)); block != nil {
		key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("the notary's key in %s: %w", where, err)
		}
		private, ok := key.(ed25519.PrivateKey)
		if !ok {
			return nil,
				fmt.Errorf("the notary's key in %s is a %T: it must be Ed25519 (openssl genpkey -algorithm ed25519)",
					where, key)
		}
		if k.Name == "" {
			return nil, fmt.Errorf("the notary's key in %s is PEM, which holds no name: set KONSTRUCT_NOTARY_NAME",
				where)
		}
		return ledger.NewSigner(k.Name, private)
	}
	s, err := ledger.ParseSigner(text)
	if err != nil {
		return nil, fmt.Errorf("the notary's key in %s: %w", where, err)
	}
	if k.Name != "" && s.Name != k.Name {
		return nil,
			fmt.Errorf("the notary's key in %s is named %s, and KONSTRUCT_NOTARY_NAME says %s: a log keeps its name",
				where, s.Name, k.Name)
	}
	return s, nil
}

// create generates a key and writes it to a new file.
func (k Keys) create(path, name string) (*ledger.Signer, error) {
	if name == "" {
		var some [4]byte
		if _, err := rand.Read(some[:]); err != nil {
			return nil, err
		}
		name = "konstruct.invalid/" + hex.EncodeToString(some[:])
	}
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	s, err := ledger.NewSigner(name, private)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("make the notary's key: %w", err)
	}
	if err := blob.WriteNew(path, s.Private()+"\n"); errors.Is(err, fs.ErrExist) {
		return k.read(path) // another process has just created it
	} else if err != nil {
		return nil, fmt.Errorf("make the notary's key: %w", err)
	}
	return s, nil
}

func (k Keys) nextFile() string { return k.File + ".next" }

// Next returns the next key of a rotation in progress, or nil without one.
func (k Keys) Next() (*ledger.Signer, error) {
	if k.Value != "" || k.File == "" {
		return nil, nil
	}
	s, err := k.read(k.nextFile())
	if errors.Is(err, ErrNoKey) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("the next key of a rotation: %w", err)
	}
	return s, nil
}

// Rotate creates the next key. The running notary logs it in the super-log, signs one checkpoint with both keys, and
// then uses the next key only.
func (k Keys) Rotate() (*ledger.Signer, error) {
	if k.Value != "" {
		return nil,
			errors.New(
				"the key is given by the environment: put it into a file (KONSTRUCT_NOTARY_KEY_FILE) to rotate it")
	}
	now, err := k.Read()
	if err != nil {
		return nil, err
	}
	if next, err := k.Next(); next != nil || err != nil {
		return next, err
	}
	return k.create(k.nextFile(), now.Name)
}

// promoteNextKey replaces the old key by the next one. The old public key stays in a file beside it.
func (n *Notary) promoteNextKey() error {
	next := n.next
	if next == nil {
		return nil
	}
	hash, _, _ := strings.Cut(strings.TrimPrefix(n.signer.String(), n.signer.Name+"+"), "+")
	file := n.c.Keys.File
	if err := os.WriteFile(file+"."+hash+".public", []byte(n.signer.String()+"\n"), 0o644); err != nil {
		return fmt.Errorf("notary: rotate keys: %w", err)
	}
	if err := os.Rename(n.c.Keys.nextFile(), file); err != nil {
		return fmt.Errorf("notary: rotate keys: %w", err)
	}
	if err := blob.SyncDir(filepath.Dir(file)); err != nil {
		return fmt.Errorf("notary: rotate keys: %w", err)
	}
	n.c.Logger.Info("notary: keys rotated", "old", n.signer.String(), "new", next.String())
	n.signer, n.next = next, nil
	return nil
}

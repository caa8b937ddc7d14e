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

// Keys says where the notary's private key is.
type Keys struct {
	// File holds it, readable by its owner alone, in signed-note form or as PKCS#8 PEM. Where it is not there it is
	// made. During a rotation the next one stands beside it, with .next behind its name.
	File string
	// Value is the key itself, from the environment; File is not read then.
	Value string
	// Name is the notary's, and its super-log's: for a key that is made and for PEM, which holds none. It begins
	// every log's name, and is best a domain name of yours with a path: example.com/audit.
	Name string
}

// ErrNoKey says that there is no key yet.
var ErrNoKey = errors.New("the notary has no key yet")

// Load returns the key in force, and makes one where there is none.
func (k Keys) Load() (*ledger.Signer, error) {
	s, err := k.Read()
	if errors.Is(err, ErrNoKey) {
		return k.create(k.File, k.Name)
	}
	return s, err
}

// Read returns the key in force, or ErrNoKey.
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
			fmt.Errorf("the notary's key %s can be read by others than its owner: chmod 600 it, and think of who has "+
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

// create draws a key and writes it where nothing is yet.
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
		return k.read(path) // somebody was quicker
	} else if err != nil {
		return nil, fmt.Errorf("make the notary's key: %w", err)
	}
	return s, nil
}

func (k Keys) nextFile() string { return k.File + ".next" }

// Next returns the key that a rotation has made and that does not sign alone yet; nil when there is none.
func (k Keys) Next() *ledger.Signer {
	if k.Value != "" || k.File == "" {
		return nil
	}
	s, err := k.read(k.nextFile())
	if err != nil {
		return nil
	}
	return s
}

// Rotate makes the next key. The running notary enters it in the super-log, has both sign one checkpoint, and
// goes on with it alone.
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
	if next := k.Next(); next != nil {
		return next, nil
	}
	return k.create(k.nextFile(), now.Name)
}

// rotated puts the next key in the place of the old one, whose public part stays beside it.
func (n *Notary) rotated() error {
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

package notary

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/konstruct/konstruct/blob"
)

// Anchor keeps the last signed checkpoint outside the database. Swap is a compare-and-swap on the version that the
// caller has read: a database that was rolled back, or a second notary, never gets a second signature for one size.
type Anchor interface {
	// Load returns the checkpoint and its version; both are empty when there is none yet.
	Load(ctx context.Context) (note, version string, err error)
	// Swap replaces the checkpoint of the given version and returns the new version, or ErrChanged.
	Swap(ctx context.Context, version, note string) (string, error)
	// String returns the anchor's location.
	String() string
}

// ErrChanged means that the anchor holds another version than expected: another notary has signed.
var ErrChanged = errors.New("the anchor holds another checkpoint than expected: another notary has signed")

// FileAnchor is an anchor in a file of this machine. It protects against a rollback of the database. To protect against
// the administrator of the database's machine, keep it on another machine or use a bucket.
type FileAnchor string

func (f FileAnchor) String() string { return string(f) }

// Load implements Anchor.
func (f FileAnchor) Load(context.Context) (note, version string, err error) {
	raw, err := os.ReadFile(string(f))
	if errors.Is(err, fs.ErrNotExist) {
		return "", "", nil
	}
	if err != nil {
		return "", "", err
	}
	return string(raw), versionOf(raw), nil
}

func versionOf(raw []byte) string {
	h := sha256.Sum256(raw)
	return hex.EncodeToString(h[:])
}

// Swap implements Anchor: under a file lock, it syncs a temporary file and renames it.
func (f FileAnchor) Swap(ctx context.Context, version, note string) (string, error) {
	path := string(f)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return "", err
	}
	lock, err := os.OpenFile(path+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return "", err
	}
	defer lock.Close() // this releases the lock
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return "", fmt.Errorf("lock %s: %w", lock.Name(), err)
	}
	_, now, err := f.Load(ctx)
	if err != nil {
		return "", err
	}
	if now != version {
		return "", ErrChanged
	}
	tmp := path + ".tmp"
	out, err := os.OpenFile(tmp, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return "", err
	}
	_, err = out.WriteString(note)
	if err == nil {
		err = out.Sync()
	}
	if err = errors.Join(err, out.Close()); err != nil {
		return "", err
	}
	if err := os.Rename(tmp, path); err != nil {
		return "", err
	}
	return versionOf([]byte(note)), blob.SyncDir(filepath.Dir(path))
}

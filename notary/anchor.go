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

// Anchor keeps the last signed checkpoint outside the database, and changes it only for who has seen what
// it holds: so a database that was taken back, or a second notary, never gets a second signature for one size.
type Anchor interface {
	// Load returns the checkpoint and its version; both empty when there is none yet.
	Load(ctx context.Context) (note, version string, err error)
	// Swap puts a checkpoint in the place of the given version and returns its version, or ErrChanged.
	Swap(ctx context.Context, version, note string) (string, error)
	// String says where it is.
	String() string
}

// ErrChanged says that somebody else has changed the anchor: another notary signed.
var ErrChanged = errors.New("the checkpoint kept in the anchor was changed by somebody else")

// FileAnchor is a copy on this machine's disk. It guards against a database that is taken back; keep it on another
// machine than the database's, or use a bucket, against who owns that one.
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

// Swap implements Anchor: under a lock, by a synced file that takes the old one's name.
func (f FileAnchor) Swap(ctx context.Context, version, note string) (string, error) {
	path := string(f)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return "", err
	}
	lock, err := os.OpenFile(path+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return "", err
	}
	defer lock.Close() // which unlocks
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

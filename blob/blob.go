package blob

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// ErrChanged says that somebody else has changed an object since it was read.
var ErrChanged = errors.New("it was changed by somebody else")

// Open opens a place: s3://BUCKET/NAME as OpenBucket reads it, or else a folder.
func Open(place string) (Bucket, error) {
	if strings.HasPrefix(place, "s3://") {
		return OpenS3(place)
	}
	return Folder(place), nil
}

// Bucket is a folder or a bucket.
type Bucket interface {
	// Read returns a file, or nil when it is not there.
	Read(ctx context.Context, name string) ([]byte, error)
	// Write puts a file there, whole or not at all.
	Write(ctx context.Context, name string, raw []byte) error
}

// Folder is a shelf on this machine's disk, for any web server.
type Folder string

// Read implements Shelf.
func (f Folder) Read(_ context.Context, name string) ([]byte, error) {
	raw, err := os.ReadFile(filepath.Join(string(f), filepath.FromSlash(name)))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return raw, err
}

// Write implements Shelf.
func (f Folder) Write(_ context.Context, name string, raw []byte) error {
	path := filepath.Join(string(f), filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	tmp := path + ".tmp"
	if err := os.WriteFile(tmp, raw, 0o644); err != nil {
		return errors.Join(err, os.Remove(tmp)) // half a file helps nobody, least of all on a full disk
	}
	return os.Rename(tmp, path)
}

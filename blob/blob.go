package blob

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// ErrChanged means that the object was changed since it was read.
var ErrChanged = errors.New("it was changed by somebody else")

// Open opens a bucket at s3://BUCKET/NAME, as OpenS3 does, or else a folder.
func Open(place string) (Bucket, error) {
	if strings.HasPrefix(place, "s3://") {
		return OpenS3(place)
	}
	return Folder(place), nil
}

// Bucket stores files, in a folder or in an S3-compatible bucket.
type Bucket interface {
	// Read returns a file's content, or nil if there is no such file.
	Read(ctx context.Context, name string) ([]byte, error)
	// Write stores a file. It is stored whole or not at all.
	Write(ctx context.Context, name string, raw []byte) error
}

// Folder is a folder on this machine, which a web server may serve.
type Folder string

// Read implements Bucket.
func (f Folder) Read(_ context.Context, name string) ([]byte, error) {
	raw, err := os.ReadFile(filepath.Join(string(f), filepath.FromSlash(name)))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return raw, err
}

// Write implements Bucket.
func (f Folder) Write(_ context.Context, name string, raw []byte) error {
	path := filepath.Join(string(f), filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	tmp, err := writeTemp(filepath.Dir(path), raw)
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := os.Rename(tmp, path); err != nil {
		return errors.Join(err, os.Remove(tmp))
	}
	return SyncDir(filepath.Dir(path))
}

// writeTemp writes a synced file with a name of its own, so that several writers do not share one. It leaves no file
// behind if it fails, such as on a full disk.
func writeTemp(dir string, raw []byte) (name string, err error) {
	f, err := os.CreateTemp(dir, ".new-*")
	if err != nil {
		return "", err
	}
	_, err = f.Write(raw)
	if err == nil {
		err = f.Chmod(0o644) // for any web server
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return "", errors.Join(err, os.Remove(f.Name()))
	}
	return f.Name(), nil
}

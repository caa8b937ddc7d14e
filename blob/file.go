package blob

import (
	"errors"
	"os"
	"path/filepath"
)

// WriteNew creates a file that only its owner can read. The file is whole and synced, or not there. The error is
// fs.ErrExist if it exists already.
func WriteNew(path, text string) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), ".new-*") // 0600
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.WriteString(text)
	if err == nil {
		err = tmp.Sync()
	}
	if err = errors.Join(err, tmp.Close()); err != nil {
		return err
	}
	if err := os.Link(tmp.Name(), path); err != nil { // unlike a rename it replaces nothing
		return err
	}
	return SyncDir(filepath.Dir(path))
}

// SyncDir syncs a folder, so that files created in or renamed into it survive a crash.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

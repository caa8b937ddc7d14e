package blob

import (
	"errors"
	"os"
	"path/filepath"
)

// WriteNew writes a file of this machine's, for its owner alone, that is whole and synced, or not there; fs.ErrExist
// where there is one.
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

// SyncDir makes what was created in or renamed into a folder survive a crash.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

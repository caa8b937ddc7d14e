// Package samples is one short handbook in each of many formats, as real applications write them: the demonstration
// takes them in, and extract's tests hold what is read of them against their source.
package samples

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

//go:embed files
var files embed.FS

// Write puts the files into a folder, which is made where it is missing; one that is there with the same content is
// left as it is.
func Write(dir string) error {
	sub, err := fs.Sub(files, "files")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("write the samples: %w", err)
	}
	return fs.WalkDir(sub, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		raw, err := fs.ReadFile(sub, name)
		if err != nil {
			return err
		}
		path := filepath.Join(dir, name)
		if is, err := os.ReadFile(path); err == nil && bytes.Equal(is, raw) {
			return nil
		} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("write the samples: %w", err)
		}
		if err := os.WriteFile(path, raw, 0o644); err != nil {
			return fmt.Errorf("write the samples: %w", err)
		}
		return nil
	})
}

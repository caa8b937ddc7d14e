package blob_test

import (
	"bytes"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/konstruct/konstruct/blob"
)

// TestTwoWritersOfAFileDoNotMixTheirContents writes one file from several goroutines, each with content of its own.
func TestTwoWritersOfAFileDoNotMixTheirContents(t *testing.T) {
	dir := t.TempDir()
	f := blob.Folder(dir)
	var writers sync.WaitGroup
	for i := range 8 {
		content := bytes.Repeat([]byte{byte('a' + i)}, 100_000+i)
		writers.Go(func() {
			for range 50 {
				if err := f.Write(t.Context(), "below/file", content); err != nil {
					t.Error(err)
				}
				got, err := f.Read(t.Context(), "below/file")
				if err != nil || len(got) != 100_000+int(got[0]-'a') || len(bytes.Trim(got, string(got[:1]))) > 0 {
					t.Errorf("%d bytes, %v", len(got), err)
				}
			}
		})
	}
	writers.Wait()
	names, err := os.ReadDir(filepath.Join(dir, "below"))
	if err != nil || len(names) != 1 {
		t.Errorf("files left: %v, %v", names, err)
	}
	if info, err := os.Stat(filepath.Join(dir, "below/file")); err != nil || info.Mode() != 0o644 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

// TestAFailedWriteLeavesNoFile has a folder where the file should be.
func TestAFailedWriteLeavesNoFile(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "file/below"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := blob.Folder(dir).Write(t.Context(), "file", []byte("x")); err == nil {
		t.Error("a folder was replaced")
	}
	if names, err := os.ReadDir(dir); err != nil || len(names) != 1 {
		t.Errorf("files left: %v, %v", names, err)
	}
}

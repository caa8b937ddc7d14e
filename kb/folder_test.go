package kb_test

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"context"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct/internal/testkit"
	"github.com/konstruct/konstruct/kb"
)

func folder(t *testing.T, parts ...string) string {
	t.Helper()
	path := filepath.Join(parts...)
	if err := os.MkdirAll(path, 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

func link(t *testing.T, target, path string) {
	t.Helper()
	if err := os.Symlink(target, path); err != nil {
		t.Fatal(err)
	}
}

// linked is a folder with links of every kind, and what lies outside it.
func linked(t *testing.T) (dir, outside string) {
	t.Helper()
	top := t.TempDir()
	dir, outside = folder(t, top, "in"), folder(t, top, "out")
	folder(t, dir, "sub")
	folder(t, outside, "more")
	write(t, filepath.Join(outside, "secret.txt"), "The secret is out.")
	write(t, filepath.Join(outside, "more", "deep.txt"), "Deep and out.")
	write(t, filepath.Join(dir, "sub", "a.txt"), "Inside.")
	link(t, "sub/a.txt", filepath.Join(dir, "relative.txt"))
	link(t, filepath.Join(dir, "sub", "a.txt"), filepath.Join(dir, "absolute.txt"))
	link(t, "../../in/sub/a.txt", filepath.Join(dir, "sub", "out-and-in.txt"))
	link(t, "../out/secret.txt", filepath.Join(dir, "secret.txt"))
	link(t, filepath.Join(outside, "secret.txt"), filepath.Join(dir, "sub", "secret.txt"))
	link(t, outside, filepath.Join(dir, "folder"))
	link(t, "folder/secret.txt", filepath.Join(dir, "through.txt"))
	link(t, "..", filepath.Join(dir, "up"))
	link(t, "sub", filepath.Join(dir, "within"))
	link(t, ".", filepath.Join(dir, "round"))
	link(t, dir, filepath.Join(outside, "back"))
	link(t, "loop.txt", filepath.Join(dir, "loop.txt"))
	link(t, "/nowhere", filepath.Join(dir, "nowhere.txt"))
	return dir, outside
}

func TestLinksThatLeadOutOfAFolderArePassedOver(t *testing.T) {
	b := newBase(t)
	dir, _ := linked(t)
	got, skipped := map[string]string{}, 0
	hear := func(r kb.IngestResult) {
		rel, err := filepath.Rel(dir, r.Path)
		if err != nil {
			t.Error(err)
		}
		if got[rel] = string(r.Outcome); r.Err != nil {
			got[rel] = r.Err.Error()
		}
		if r.Skipped {
			skipped++
		}
	}
	if err := b.in.Files(t.Context(), tenantA, agent, []string{dir}, kb.DocumentOptions{}, hear); err != nil {
		t.Fatal(err)
	}
	out := kb.ErrOutsideLink.Error()
	for name, want := range map[string]string{
		"sub/a.txt": "added", "relative.txt": "added", "absolute.txt": "added", "sub/out-and-in.txt": "added",
		"secret.txt": out, "sub/secret.txt": out, "folder": out, "through.txt": out, "up": out,
		"loop.txt": "too many levels", "nowhere.txt": "no such file",
	} {
		if !strings.Contains(got[name], want) {
			t.Errorf("%s: %q, want %q", name, got[name], want)
		}
		delete(got, name)
	}
	if len(got) > 0 || skipped != 5 {
		t.Errorf("%d passed over, and %v", skipped, got)
	}
	// Handed over for later it is the same; and whoever names a link means what it leads to.
	clear(got)
	if err := b.in.Enqueue(t.Context(), tenantB, agent, []string{dir, filepath.Join(dir, "secret.txt")},
		kb.DocumentOptions{}, func(r kb.IngestResult) {
			if errors.Is(r.Err, kb.ErrOutsideLink) {
				got[r.Path] = out
			}
		}); err != nil || len(got) != 5 {
		t.Errorf("%v, %v", got, err)
	}
	jobs := b.jobs(t, tenantB)
	if d := cmp.Diff([]string{"a.txt", "absolute.txt", "out-and-in.txt", "relative.txt", "secret.txt"},
		slices.Sorted(maps.Keys(jobs))); d != "" {
		t.Error(d)
	}
}

func TestLinksAreFollowedWhereThatIsAskedFor(t *testing.T) {
	dir, outside := linked(t)
	got := kb.WalkAndRead(dir, true, func(string) {})
	for name, want := range map[string]string{
		"sub/a.txt": "Inside.", "secret.txt": "The secret is out.", "folder/secret.txt": "The secret is out.",
		"folder/more/deep.txt": "Deep and out.",
		"up/out/secret.txt":    "", "folder/back/sub/a.txt": "", "up/in/sub/a.txt": "",
	} {
		if got := got[filepath.Join(dir, name)]; got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	// Each file is read once by each of the ways that lead to it without going round.
	if len(got) != 11 {
		t.Errorf("%d: %v", len(got), got)
	}
	for path, content := range kb.WalkAndRead(outside, false, func(string) {}) {
		if strings.Contains(path, "back") != (content == kb.ErrOutsideLink.Error()) {
			t.Errorf("%s: %q", path, content)
		}
	}
}

// TestALinkPutInAFilesPlaceIsNotFollowed between the look at it and its opening, nor one in the place of a folder
// above it.
func TestALinkPutInAFilesPlaceIsNotFollowed(t *testing.T) {
	for _, what := range []string{"the file", "its folder"} {
		top := t.TempDir()
		dir, outside := folder(t, top, "in", "sub"), folder(t, top, "out")
		path := write(t, filepath.Join(dir, "a.txt"), "Inside.")
		write(t, filepath.Join(outside, "a.txt"), "The secret is out.")
		got := kb.WalkAndRead(filepath.Join(top, "in"), false, func(at string) {
			place, target := path, filepath.Join(outside, "a.txt")
			if what == "its folder" {
				place, target = dir, outside
			}
			if err := os.Rename(place, filepath.Join(top, "moved")); err != nil {
				t.Fatal(err)
			}
			link(t, target, place)
		})
		if len(got) != 1 || !strings.Contains(got[path], "escapes") {
			t.Errorf("%s: %v", what, got)
		}
	}
}

// TestAWatchedFolderDoesNotFollowLinksOut, whenever they come: they are told of once, and what they led to before is
// not removed.
func TestAWatchedFolderDoesNotFollowLinksOut(t *testing.T) {
	dir, _ := linked(t)
	for _, gone := range []string{"loop.txt", "nowhere.txt"} { // or it is not told what there is
		if err := os.Remove(filepath.Join(dir, gone)); err != nil {
			t.Fatal(err)
		}
	}
	w := kb.NewWatcher([]string{dir}, false)
	changed, present := w.Scan()
	if len(changed) != 9 || len(present) != 9 || !present[filepath.Join(dir, "secret.txt")] {
		t.Errorf("%v, %v", changed, present)
	}
	if changed, _ := w.Scan(); len(changed) != 0 {
		t.Errorf("told again: %v", changed)
	}
	b := newBase(t)
	var n int
	in := *b.in
	in.Only = func(path string) bool { return slices.Contains(changed, path) }
	if err := in.Files(t.Context(), tenantA, agent, []string{dir}, kb.DocumentOptions{}, func(r kb.IngestResult) {
		if n++; (r.Outcome == kb.Added) == errors.Is(r.Err, kb.ErrOutsideLink) {
			t.Errorf("%+v", r)
		}
	}); err != nil || n != 9 || len(b.list(t, tenantA)) != 4 {
		t.Errorf("%d, %v, %v", n, err, b.list(t, tenantA))
	}
}

// TestFoldersHaveALimit, as a stranger may put any number within each other.
func TestFoldersHaveALimit(t *testing.T) {
	dir := t.TempDir()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	deep := strings.Repeat("d/", 300)
	if err := root.MkdirAll(deep, 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "a.txt"), "Here.")
	got := kb.WalkAndRead(dir, false, func(string) {})
	refused := func(s string) bool { return strings.Contains(s, "more than 255 folders") }
	if len(got) != 2 || !slices.ContainsFunc(slices.Collect(maps.Values(got)), refused) {
		t.Errorf("%v", got)
	}
}

// TestLinksInArchivesAreNotFollowed; those that lead out are told of.
func TestLinksInArchivesAreNotFollowed(t *testing.T) {
	b, dir := newBase(t), t.TempDir()
	var zipped bytes.Buffer
	z := zip.NewWriter(&zipped)
	for name, content := range map[string]string{"a/words.txt": "Words.", "a/in.txt": "words.txt",
		"a/up.txt": "../a/words.txt", "out.txt": "/etc/passwd", "a/out.txt": "../../etc/passwd",
		"win.txt": `..\..\secret`} {
		h := &zip.FileHeader{Name: name}
		h.SetMode(0o600)
		if name != "a/words.txt" {
			h.SetMode(0o777 | fs.ModeSymlink)
		}
		w, err := z.CreateHeader(h)
		if err == nil {
			_, err = w.Write([]byte(content))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "z.zip"), zipped.String())
	write(t, filepath.Join(dir, "t.tar"),
		tarOf(t,
			[]tar.Header{{Name: "b/words.txt", Typeflag: tar.TypeReg},
				{Name: "b/in.txt", Typeflag: tar.TypeSymlink, Linkname: "words.txt"},
				{Name: "b/hard.txt", Typeflag: tar.TypeLink, Linkname: "b/words.txt"},
				{Name: "b/out.txt", Typeflag: tar.TypeSymlink, Linkname: "/etc/passwd"},
				{Name: "hard.txt", Typeflag: tar.TypeLink, Linkname: "../../etc/passwd"},
				{Name: "device", Typeflag: tar.TypeBlock}}, "Words."))
	got := map[string]bool{}
	if err := b.in.Files(t.Context(), tenantA, agent, []string{dir}, kb.DocumentOptions{}, func(r kb.IngestResult) {
		rel, _ := filepath.Rel(dir, r.Path)
		got[rel] = r.Outcome == kb.Added && !errors.Is(r.Err, kb.ErrOutsideLink)
		if r.Err != nil && !errors.Is(r.Err, kb.ErrOutsideLink) {
			t.Errorf("%+v", r)
		}
	}); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(map[string]bool{"z.zip/a/words.txt": true, "z.zip/out.txt": false, "z.zip/a/out.txt": false,
		"z.zip/win.txt":     false,
		"t.tar/b/words.txt": true, "t.tar/b/out.txt": false, "t.tar/hard.txt": false}, got); d != "" {
		t.Error(d)
	}
	// A job ingests what is there, and reads no file of the machine that works on it.
	b.enqueue(t, tenantB,
		kb.Upload{Source: "test:t.tar", Filename: "t.tar", Content: read(t, filepath.Join(dir, "t.tar"))})
	drain(t, b.in, tenantB)
	if d := cmp.Diff(map[string]string{"t.tar": "done unpacked", "words.txt": "done added"},
		b.jobs(t, tenantB)); d != "" {
		t.Error(d)
	}
}

// TestAJobReadsNoFileOfTheMachineThatWorksOnIt, whatever its source says: uploads that name one are refused, and rows
// that were forged fail.
func TestAJobReadsNoFileOfTheMachineThatWorksOnIt(t *testing.T) {
	b, d := newQueue(t)
	b.pages(t)
	path := write(t, filepath.Join(t.TempDir(), "secret.txt"), "The secret is out.")
	for i, source := range []string{path, "file://" + path, "file:" + path, "FILE://" + path} {
		testkit.Super(t, d,
			`SET app.current_tenant = '`+tenantA.String()+
				`'; INSERT INTO kb_jobs (tenant_id, id, agent_id, source, filename) VALUES ('`+tenantA.String()+`', '`+
				uuid.NewString()+`', '`+agent.String()+`', '`+source+`', '`+string(rune('a'+i))+`')`)
		if err := b.door.Tx(t.Context(), tenantB, func(ctx context.Context, tx pgx.Tx) error {
			_, err := kb.Enqueue(ctx, tx, tenantB, agent, kb.Upload{Source: source})
			return err
		}); err == nil || !strings.Contains(err.Error(), "content: there is none") {
			t.Errorf("%s: %v", source, err)
		}
	}
	drain(t, b.in, tenantA)
	for name, state := range b.jobs(t, tenantA) {
		if strings.HasPrefix(state, "done") {
			t.Errorf("%s: %s", name, state)
		}
	}
	if docs := b.list(t, tenantA); len(docs) != 0 {
		t.Errorf("%+v", docs)
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

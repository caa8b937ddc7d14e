package kb_test

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/konstruct/konstruct/kb"
)

// entry is a file inside an archive.
type entry struct{ name, content string }

func zipOf(t *testing.T, entries ...entry) string {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for _, e := range entries {
		w, err := z.Create(e.name)
		if err == nil {
			_, err = io.WriteString(w, e.content)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func tarOf(t *testing.T, headers []tar.Header, content string) string {
	t.Helper()
	var b bytes.Buffer
	z := tar.NewWriter(&b)
	for _, h := range headers {
		if h.Typeflag == tar.TypeReg {
			h.Size = int64(len(content))
		}
		h.Mode = 0o644
		err := z.WriteHeader(&h)
		if err == nil && h.Size > 0 {
			_, err = io.WriteString(z, content)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func gzipOf(t *testing.T, s string) string {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, err := io.WriteString(z, s)
	if err == nil {
		err = z.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// outcomes takes a folder in and returns what became of each file, by its place below the folder.
func (b *base) outcomes(t *testing.T, dir string) map[string]string {
	t.Helper()
	got := map[string]string{}
	if err := b.in.Files(t.Context(), tenantA, agent, []string{dir}, kb.DocumentOptions{}, func(r kb.IngestResult) {
		name := strings.TrimPrefix(r.Path, dir+"/")
		if got[name] = string(r.Outcome); r.Err != nil {
			got[name] = r.Err.Error()
		}
	}); err != nil {
		t.Fatal(err)
	}
	return got
}

func TestArchivesAreTakenInFileByFile(t *testing.T) {
	b, dir := newBase(t), t.TempDir()
	inner := zipOf(t, entry{"deep/note.txt", "The innermost note."})
	write(t, filepath.Join(dir, "a.zip"),
		zipOf(t, entry{"docs/pump.md", "# Pumps\n\nThe pump draws water."},
			entry{"../../escape.txt", "This path leads out."}, entry{"/abs.txt", "This path is absolute."},
			entry{"inner.zip", inner}, entry{"docs/", ""}, entry{".hidden/x.txt", "hidden"},
			entry{"__MACOSX/x.txt", "hidden"}, entry{"x.png", "\x89PNG\r\n\x1a\n\x00\x00"}, entry{"empty.txt", ""}))
	write(t, filepath.Join(dir, "b.tar.gz"),
		gzipOf(t,
			tarOf(t,
				[]tar.Header{{Name: "c/words.txt", Typeflag: tar.TypeReg},
					{Name: "link.txt", Typeflag: tar.TypeSymlink, Linkname: "/etc/passwd"},
					{Name: "hard.txt", Typeflag: tar.TypeLink, Linkname: "../../etc/passwd"},
					{Name: "dev", Typeflag: tar.TypeChar},
					{Name: "../../out.txt", Typeflag: tar.TypeReg}}, "Words in a tar.")))
	write(t, filepath.Join(dir, "c.txt.gz"), gzipOf(t, "One packed text."))
	write(t, filepath.Join(dir, "nested.zip"),
		zipOf(t,
			entry{"1.zip", zipOf(t, entry{"2.zip", zipOf(t, entry{"3.zip", zipOf(t, entry{"4.txt", "too deep"})})})}))
	write(t, filepath.Join(dir, "broken.zip"), zipOf(t, entry{"x.txt", "x"})[:40])
	write(t, filepath.Join(dir, "bomb.zip"),
		zipOf(t, entry{"zeros.txt", strings.Repeat("0 ", 80<<20)},
			entry{"after.txt", "What stands behind a bomb is read."}))
	got := b.outcomes(t, dir)
	for name, want := range map[string]string{
		"a.zip/docs/pump.md": "added", "a.zip/escape.txt": "added", "a.zip/abs.txt": "added",
		"a.zip/inner.zip/deep/note.txt": "added", "a.zip/x.png": "skipped", "a.zip/empty.txt": "empty",
		"b.tar.gz/c/words.txt": "added", "b.tar.gz/out.txt": "added", "c.txt.gz/c.txt": "added",
		"nested.zip/1.zip/2.zip/3.zip": "within each other", "broken.zip": "read the ZIP",
		"bomb.zip/zeros.txt": "too large", "bomb.zip/after.txt": "added", "b.tar.gz/link.txt": "link that leads out",
		"b.tar.gz/hard.txt": "link that leads out",
	} {
		if !strings.Contains(got[name], want) {
			t.Errorf("%s: %q, want %q", name, got[name], want)
		}
		delete(got, name)
	}
	for name, what := range got {
		t.Errorf("%s: %q was not expected", name, what)
	}
	if hits := b.search(t, tenantA, "what draws water?", 1); len(hits) != 1 ||
		hits[0].Source != "file://"+dir+"/a.zip#docs/pump.md" || hits[0].Filename != "pump.md" {
		t.Errorf("%+v", hits)
	}
	if hits := b.search(t, tenantB, "what draws water?", 1); len(hits) != 0 {
		t.Errorf("another tenant sees %+v", hits)
	}
	if _, err := os.Stat(filepath.Join(filepath.Dir(filepath.Dir(dir)), "escape.txt")); err == nil {
		t.Error("a file was written outside")
	}
	for name, what := range b.outcomes(t, dir) {
		if what == "added" || what == "replaced" {
			t.Errorf("%s is %s the second time", name, what)
		}
	}
}

func message(id, subject, text string) string {
	return "From ada@example.com Mon Nov  2 10:00:00 2026\nFrom: ada@example.com\nMessage-ID: <" + id + ">\nSubject: " +
		subject + "\n\n" + text + "\n\n"
}

func TestAMailboxGrows(t *testing.T) {
	b, dir := newBase(t), t.TempDir()
	first := message("1@x", "Pumps", "The pump draws water.\n>From the lake, that is.") +
		message("2@x", "Keys", "The keys hang behind the door.") + message("/etc/passwd", "Odd", "An odd id.")
	write(t, filepath.Join(dir, "mail.mbox"), first)
	got := b.outcomes(t, dir)
	if len(got) != 3 || got["mail.mbox/1@x"] != "added" || got["mail.mbox/2@x"] != "added" ||
		got["mail.mbox/message 3"] != "added" {
		t.Fatalf("%q", got)
	}
	write(t, filepath.Join(dir, "mail.mbox"), first+message("4@x", "More", "One more message."))
	if got = b.outcomes(t, dir); len(got) != 4 || got["mail.mbox/1@x"] != "unchanged" ||
		got["mail.mbox/4@x"] != "added" {
		t.Errorf("%q", got)
	}
	hits := b.search(t, tenantA, "where do the keys hang?", 1)
	if len(hits) != 1 || !strings.Contains(hits[0].Content, "behind the door") {
		t.Errorf("%+v", hits)
	}
	if hits = b.search(t, tenantA, "pump water", 1); !strings.Contains(hits[0].Content, "From the lake") ||
		strings.Contains(hits[0].Content, ">From") {
		t.Errorf("%+v", hits)
	}
}

// A mailbox of five gigabytes takes one message's memory, also with a line that does not end.
func TestALongMailboxIsStreamed(t *testing.T) {
	b, dir := newBase(t), t.TempDir()
	f, err := os.Create(filepath.Join(dir, "long.mbox"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = io.WriteString(f,
		"From a@b Mon Nov  2 10:00:00 2026\nFrom: a@b\nMessage-ID: <long@x>\nSubject: endless\n\n"+
			strings.Repeat("x", 8192))
	if err == nil { // a line of five gigabytes, of which the disk keeps none
		_, err = f.Seek(5<<30, io.SeekStart)
	}
	if err == nil {
		_, err = io.WriteString(f, "\n\n"+message("short@x", "Short", "The last message is read."))
	}
	if err != nil || f.Close() != nil {
		t.Fatal(err)
	}
	got := b.outcomes(t, dir)
	if names := slices.Sorted(func(yield func(string) bool) {
		for k, v := range got {
			if !yield(fmt.Sprint(k, ": ", v)) {
				return
			}
		}
	}); len(names) != 2 || !strings.Contains(names[0], "more than") || names[1] != "long.mbox/short@x: added" {
		t.Errorf("%q", names)
	}
}

// A table whose line is a gigabyte long is refused before it is read.
func TestALineOfAGigabyte(t *testing.T) {
	b, dir := newBase(t), t.TempDir()
	path := write(t, filepath.Join(dir, "long.csv"), "a,b\n"+strings.Repeat("cell,", 4000))
	if err := os.Truncate(path, 1<<30); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	got := b.outcomes(t, dir)["long.csv"]
	if !strings.Contains(got, "the file is too large: 1073741824 bytes, the limit for text/csv is 16777216") {
		t.Errorf("%q after %v", got, time.Since(begin))
	}
}

package kb

import (
	"archive/tar"
	"archive/zip"
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/mail"
	"path"
	"slices"
	"strings"

	"github.com/konstruct/konstruct/extract"
	"github.com/konstruct/konstruct/fetch"
)

// Limits on what one archive or mailbox holds.
const (
	maxBuffered = 3         // archives within each other
	maxMembers  = 1_000_000 // files in one
	maxUnpacked = 16 << 30  // bytes of all that is in the outermost, unpacked
)

// unpacker ingests a file, or what it holds, one by one: nothing is written to disk, and one file at a time is in
// memory.
type unpacker struct {
	ctx       context.Context
	add       func(file, error) bool // returns false to stop
	remaining int64                  // bytes that may still be unpacked
	// known is the etag of what is known of a file that is not on this disk, and page a page that another names.
	known func(f file) (string, error)
	page  func(url string) (file, error)
	later bool // pages that a list names are taken without being read
}

// file handles a file at a depth of nested archives or lists; it returns false to stop.
func (u *unpacker) file(f file, depth int) bool {
	if f.get != nil && f.raw == nil {
		etag, err := u.known(f)
		if err == nil {
			f.raw, f.etag, err = f.get(u.ctx, etag)
		}
		if err == nil && len(f.raw) == 0 {
			err = extract.ErrEmpty
		}
		if err != nil {
			return u.ctx.Err() == nil && u.add(f, err)
		}
		if pages, maps, err := fetch.Links(f.url, f.raw); isURL(f.url) && !f.leaf && !errors.Is(err, fetch.ErrNoList) {
			return u.list(f, pages, maps, err, depth)
		}
	}
	h, size, err := f.open()
	if err != nil {
		return u.add(f, err)
	}
	defer h.Close()
	kind, err := f.sniff(h)
	switch {
	case err != nil:
		return u.add(f, err)
	case !extract.Holds(kind):
		limit := extract.Limit(kind)
		if size > limit {
			return u.add(f, fmt.Errorf("%w: %d bytes, the limit for %s is %d: split it", extract.ErrTooLarge, size,
				kind, limit))
		}
		if f.raw == nil {
			if f.raw, err = io.ReadAll(io.LimitReader(h, limit+1)); err != nil {
				return u.add(f, err)
			}
		}
		f.kind = kind
		return u.add(f, nil)
	case depth == maxBuffered:
		return u.add(f, fmt.Errorf("it lies in %d archives within each other, the limit is %d", depth+1, maxBuffered))
	}
	switch kind {
	case extract.TypeZip:
		err = u.zip(f, h, size, depth)
	case extract.TypeTar:
		err = u.tar(f, h, depth)
	case extract.TypeGzip:
		err = u.gzip(f, h, depth)
	case extract.TypeMailbox:
		err = u.mailbox(f, h, depth)
	}
	if errors.Is(err, errStop) {
		return false
	}
	if err != nil && u.ctx.Err() == nil {
		return u.add(file{path: f.path, url: f.url, named: f.named, member: f.member}, err)
	}
	return u.ctx.Err() == nil
}

// list takes the pages that a sitemap or a feed names.
func (u *unpacker) list(f file, pages, maps []string, err error, depth int) bool {
	if err == nil && depth == maxBuffered {
		err = fmt.Errorf("it lies in %d lists within each other, the limit is %d", depth+1, maxBuffered)
	}
	if err == nil && len(pages)+len(maps) == 0 {
		err = errors.New("it names no page")
	}
	if err != nil {
		return u.add(f, err)
	}
	for i, link := range slices.Concat(maps, pages) {
		page, err := u.page(link)
		page.named, page.leaf = false, i >= len(maps)
		more := true
		if err != nil || page.leaf && u.later {
			more = u.add(page, err)
		} else {
			more = u.file(page, depth+1)
		}
		if !more {
			return false
		}
	}
	return true
}

// member reads a file inside another, bounded, and takes it. Hidden ones are left out, as in folders.
func (u *unpacker) member(of file, name string, r io.Reader, depth int) error {
	name = strings.TrimPrefix(path.Clean("/"+strings.ReplaceAll(strings.ToValidUTF8(name, "\uFFFD"), "\\", "/")), "/")
	for part := range strings.SplitSeq(name, "/") {
		if part == "" || part[0] == '.' || part == "__MACOSX" {
			return nil
		}
	}
	f := file{path: of.path, url: of.url, called: of.called, member: name}
	if of.member != "" {
		f.member = of.member + "/" + name
	}
	limit := min(u.remaining, extract.MaxPDF)
	raw, err := io.ReadAll(io.LimitReader(extract.Until(u.ctx, r), limit+1))
	u.remaining -= int64(len(raw))
	switch {
	case u.ctx.Err() != nil:
		return u.ctx.Err()
	case u.remaining <= 0:
		return fmt.Errorf("%w: it unpacks to more than %d bytes", extract.ErrTooLarge, int64(maxUnpacked))
	case err == nil && int64(len(raw)) > limit:
		err = fmt.Errorf("%w: it unpacks to more than %d bytes", extract.ErrTooLarge, limit)
	case err == nil && len(raw) == 0:
		err = extract.ErrEmpty
	}
	if err != nil {
		if !u.add(f, err) {
			return errStop
		}
		return nil
	}
	f.raw = raw
	if !u.file(f, depth+1) {
		return errStop
	}
	return nil
}

func (u *unpacker) zip(f file, h io.ReaderAt, size int64, depth int) error {
	z, err := zip.NewReader(h, size)
	if err != nil && !errors.Is(err, zip.ErrInsecurePath) { // names are cleaned, and nothing is written by them
		return fmt.Errorf("read the ZIP: %w", err)
	}
	if len(z.File) > maxMembers {
		return fmt.Errorf("%w: %d files inside, the limit is %d", extract.ErrTooLarge, len(z.File), maxMembers)
	}
	for _, m := range z.File {
		if m.Mode()&fs.ModeSymlink != 0 && m.UncompressedSize64 <= maxTarget &&
			!u.link(f, m.Name, path.Dir(m.Name), zipTarget(m)) {
			return errStop
		}
		if !m.Mode().IsRegular() {
			continue
		}
		var r io.ReadCloser
		if m.Flags&1 != 0 {
			err = extract.ErrEncrypted
		} else {
			r, err = m.Open()
		}
		if err != nil {
			r = io.NopCloser(failingReader{err})
		}
		if err := errors.Join(u.member(f, m.Name, r, depth), r.Close()); err != nil {
			return err
		}
	}
	return nil
}

// failingReader is a member that can't be read.
type failingReader struct{ err error }

// Read implements io.Reader.
func (f failingReader) Read([]byte) (int, error) { return 0, f.err }

func (u *unpacker) tar(f file, r io.Reader, depth int) error {
	t := tar.NewReader(extract.Until(u.ctx, r))
	for n := 0; ; n++ {
		head, err := t.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil && !errors.Is(err, tar.ErrInsecurePath) {
			return fmt.Errorf("read the tar: %w", err)
		}
		if n == maxMembers {
			return fmt.Errorf("%w: more than %d files inside", extract.ErrTooLarge, maxMembers)
		}
		from := path.Dir(head.Name)
		switch head.Typeflag {
		case tar.TypeReg:
			if err := u.member(f, head.Name, t, depth); err != nil {
				return err
			}
			continue
		case tar.TypeLink: // to another member, by its name
			from = "."
		case tar.TypeSymlink:
		default: // folders, devices
			continue
		}
		if !u.link(f, head.Name, from, head.Linkname) {
			return errStop
		}
	}
}

// maxTarget is how many bytes of a link's target are read.
const maxTarget = 4096

func zipTarget(m *zip.File) string {
	r, err := m.Open()
	if err != nil {
		return ""
	}
	defer r.Close()
	target, _ := io.ReadAll(io.LimitReader(r, maxTarget))
	return string(target)
}

// link reports a link in an archive that leads out of it. No link in an archive is followed: what it leads to inside is
// taken by itself.
func (u *unpacker) link(of file, name, from, target string) bool {
	target = strings.ReplaceAll(target, "\\", "/")
	out := path.Join(strings.TrimPrefix(path.Clean("/"+strings.ReplaceAll(from, "\\", "/")), "/"), target)
	if !path.IsAbs(target) && out != ".." && !strings.HasPrefix(out, "../") {
		return true
	}
	inside := path.Join(of.member, strings.ToValidUTF8(name, "\uFFFD"))
	return u.add(file{path: of.path, url: of.url, called: of.called, member: inside}, ErrOutsideLink)
}

// gzip unpacks what may be a tar, which is read as it comes, or one file.
func (u *unpacker) gzip(f file, h io.Reader, depth int) error {
	z, err := gzip.NewReader(extract.Until(u.ctx, h))
	if err != nil {
		return fmt.Errorf("read the gzip: %w", err)
	}
	defer z.Close()
	b := bufio.NewReaderSize(z, 4096)
	head, err := b.Peek(1024)
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read the gzip: %w", err)
	}
	if kind, err := extract.Type("", head); err == nil && kind == extract.TypeTar {
		return u.tar(f, io.LimitReader(b, u.remaining), depth)
	}
	name := path.Base(strings.ReplaceAll(f.label(), "\\", "/"))
	if name = strings.TrimSuffix(name, path.Ext(name)); name == "" || name[0] == '.' {
		name = "content"
	}
	return u.member(f, name, b, depth)
}

// mailbox takes the messages one by one, by their Message-ID where they have one: a mailbox that grew is ingested again
// by what is new.
func (u *unpacker) mailbox(f file, h io.Reader, depth int) error {
	return extract.EachMessage(u.ctx, extract.Until(u.ctx, h), func(n int, raw []byte, tooLong bool) error {
		name := fmt.Sprintf("message %d", n)
		if m, err := mail.ReadMessage(bytes.NewReader(raw)); err == nil {
			if id := strings.Trim(m.Header.Get("Message-ID"), "<> "); id != "" && len(id) < 500 &&
				!strings.ContainsAny(id, "/\\\x00") && id[0] != '.' {
				name = id
			}
		}
		u.remaining -= int64(len(raw))
		at := file{path: f.path, url: f.url, member: path.Join(f.member, name), kind: extract.TypeMail}
		if tooLong {
			if !u.add(at, fmt.Errorf("%w: a message of more than %d bytes", extract.ErrTooLarge, extract.MaxText)) {
				return errStop
			}
			return nil
		}
		at.raw = bytes.Clone(raw)
		if !u.add(at, nil) {
			return errStop
		}
		return nil
	})
}

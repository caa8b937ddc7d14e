package kb

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/konstruct/konstruct/extract"
)

// errSkipped marks a file that a folder happened to hold and that is not for reading here.
var errSkipped = errors.New("skipped")

// file is one file to ingest.
type file struct {
	path   string // as the caller named it, or where it was found
	url    string // where it is, if not on this machine's disk
	named  bool   // given by name, not found in a folder
	member string // where it is inside the file at path; empty for that file itself
	called string // its name, where that is not in its path
	kind   string // once it was looked at
	raw    []byte // once it was read
	// in is the folder it was found in, and place where in it: it is opened through that folder.
	in    *os.Root
	place string
	stat  os.FileInfo // as it was found on disk
	leaf  bool        // a page that a list named, and no list itself
	etag  string      // what its site or bucket calls raw
	// get reads what is not on this disk, unless its content is still that of the etag: then the error is errSame.
	get func(ctx context.Context, etag string) (raw []byte, now string, err error)
}

// errSameContent says that a file has the content that is known already.
var errSameContent = errors.New("it is what it was")

// isURL reports a path that is a page's URL.
func isURL(path string) bool {
	return strings.HasPrefix(path, "http://") || strings.HasPrefix(path, "https://")
}

// label is the file's name in messages.
func (f file) label() string {
	if f.member == "" {
		return f.path
	}
	return f.path + "/" + f.member
}

// open opens a file that lies on disk or was read. Nonblocking, so that a pipe put in the file's place since cannot
// hold us.
func (f file) open() (h heldPlaces, size int64, err error) {
	if f.raw != nil {
		return nopClose{bytes.NewReader(f.raw)}, int64(len(f.raw)), nil
	}
	var on *os.File
	switch {
	case f.url != "":
		err = errors.New("it is not on this disk, and was not read")
	case f.in != nil:
		on, err = f.in.OpenFile(f.place, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	default:
		on, err = os.OpenFile(f.path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	}
	if err != nil {
		return nil, 0, err
	}
	st, err := on.Stat()
	if err == nil {
		err = isRegular(st)
	}
	if err != nil {
		_ = on.Close()
		return nil, 0, err
	}
	return on, st.Size(), nil
}

// heldPlaces is a file that is read here and there.
type heldPlaces interface {
	io.Reader
	io.ReaderAt
	io.Seeker
	io.Closer
}

type nopClose struct{ *bytes.Reader }

// Close implements io.Closer.
func (nopClose) Close() error { return nil }

// sniff says what kind of file it is by its name and first bytes.
func (f file) sniff(h io.ReaderAt) (kind string, err error) {
	head := make([]byte, 4096)
	n, err := h.ReadAt(head, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	if n == 0 {
		return "", extract.ErrEmpty
	}
	if kind, err = extract.Type(f.name(), head[:n]); err != nil && !f.named {
		err = fmt.Errorf("%w: %w", errSkipped, err)
	}
	return kind, err
}

// source is the file's URL; it is how the same file is known again.
func (f file) source() (string, error) {
	u := &url.URL{Scheme: "file"}
	if f.url != "" {
		var err error
		if u, err = url.Parse(f.url); err != nil {
			return "", err
		}
	} else {
		abs, err := filepath.Abs(f.path)
		if err != nil {
			return "", err
		}
		u.Path = filepath.ToSlash(abs)
	}
	if f.member != "" {
		u.Fragment, u.RawFragment = strings.TrimPrefix(u.Fragment+"/"+f.member, "/"), ""
	}
	if s := u.String(); len(s) <= MaxSource {
		return s, nil
	}
	return "", fmt.Errorf("its path is too long: the limit is %d bytes", MaxSource)
}

// name is the file's own name as text that a database can hold.
func (f file) name() string {
	name := f.called
	if u, err := url.Parse(f.url); name == "" && isURL(f.url) && f.member == "" && err == nil {
		if name = path.Base(u.Path); name == "." || name == "/" {
			return u.Hostname()
		}
	}
	if name == "" || f.member != "" {
		name = path.Base(filepath.ToSlash(f.label()))
	}
	return strings.ReplaceAll(strings.ToValidUTF8(name, "\uFFFD"), "\x00", "\uFFFD")
}

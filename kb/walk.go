package kb

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
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

// file is one file to take in.
type file struct {
	path   string
	named  bool   // given by name, not found in a folder
	inside string // where it is inside the file at path; empty for that file itself
	kind   string // once it was looked at
	raw    []byte // once it was read
}

// isPage reports a path that is a URL.
func (f file) isPage() bool {
	return strings.HasPrefix(f.path, "http://") || strings.HasPrefix(f.path, "https://")
}

// label is the file as it is told of.
func (f file) label() string {
	if f.inside == "" {
		return f.path
	}
	return f.path + "/" + f.inside
}

// walk yields the files that paths name and hold, until yield returns false. Folders are walked in name
// order; hidden entries are left out, links to folders are not followed, so a loop ends.
func walk(names []string, yield func(file, error) bool) {
	for _, path := range names {
		if f := (file{path: path, named: true}); f.isPage() {
			if !yield(f, nil) {
				return
			}
			continue
		}
		st, err := os.Stat(path)
		if err != nil {
			if !yield(file{path: path, named: true}, err) {
				return
			}
			continue
		}
		if !st.IsDir() {
			if !yield(file{path: path, named: true}, regular(st)) {
				return
			}
			continue
		}
		err = filepath.WalkDir(path, func(name string, d fs.DirEntry, err error) error {
			more := true
			switch {
			case err != nil:
				more = yield(file{path: name}, err)
			case name != path && strings.HasPrefix(d.Name(), "."):
				if d.IsDir() {
					return fs.SkipDir
				}
			case d.IsDir():
			default:
				st, err := os.Stat(name) // through a link
				switch {
				case err != nil:
					more = yield(file{path: name}, err)
				case st.IsDir(): // a link to a folder
				default:
					more = yield(file{path: name}, regular(st))
				}
			}
			if !more {
				return fs.SkipAll
			}
			return nil
		})
		if err != nil && !yield(file{path: path}, err) {
			return
		}
	}
}

func regular(st fs.FileInfo) error {
	switch m := st.Mode(); {
	case m.IsRegular():
		return nil
	case m&fs.ModeNamedPipe != 0:
		return errors.New("it is a named pipe, not a file")
	case m&fs.ModeSocket != 0:
		return errors.New("it is a socket, not a file")
	default:
		return errors.New("it is a device, not a file")
	}
}

// open opens a file that lies on disk or was unpacked. Nonblocking, so that a pipe put in the file's place since cannot hold us.
func (f file) open() (h held, size int64, err error) {
	if f.raw != nil {
		return nopClose{bytes.NewReader(f.raw)}, int64(len(f.raw)), nil
	}
	on, err := os.OpenFile(f.path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, 0, err
	}
	st, err := on.Stat()
	if err == nil {
		err = regular(st)
	}
	if err != nil {
		_ = on.Close()
		return nil, 0, err
	}
	return on, st.Size(), nil
}

// held is a file that is read here and there.
type held interface {
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
	if f.isPage() {
		var err error
		if u, err = url.Parse(f.path); err != nil {
			return "", err
		}
	} else {
		abs, err := filepath.Abs(f.path)
		if err != nil {
			return "", err
		}
		u.Path = filepath.ToSlash(abs)
	}
	u.Fragment = f.inside
	if s := u.String(); len(s) <= MaxSource {
		return s, nil
	}
	return "", fmt.Errorf("its path is too long: the limit is %d bytes", MaxSource)
}

// name is the file's own name as text that a database can hold.
func (f file) name() string {
	if u, err := url.Parse(f.path); f.isPage() && f.inside == "" && err == nil {
		if name := path.Base(u.Path); name != "." && name != "/" {
			return strings.ToValidUTF8(name, "\uFFFD")
		}
		return u.Hostname()
	}
	return strings.ToValidUTF8(path.Base(filepath.ToSlash(f.label())), "\uFFFD")
}

// Count is how many files paths name and hold, for a progress bar.
func Count(paths []string) (n int) {
	walk(paths, func(file, error) bool { n++; return true })
	return n
}

package kb

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/konstruct/konstruct/extract"
)

// errSkipped marks a file that a folder happened to hold and that is not for reading here.
var errSkipped = errors.New("skipped")

// file is one file to take in.
type file struct {
	path  string
	named bool // given by name, not found in a folder
}

// walk yields the files that paths name and hold, until yield returns false. Folders are walked in name
// order; hidden entries are left out, links to folders are not followed, so a loop ends.
func walk(paths []string, yield func(file, error) bool) {
	for _, path := range paths {
		st, err := os.Stat(path)
		if err != nil {
			if !yield(file{path, true}, err) {
				return
			}
			continue
		}
		if !st.IsDir() {
			if !yield(file{path, true}, regular(st)) {
				return
			}
			continue
		}
		err = filepath.WalkDir(path, func(name string, d fs.DirEntry, err error) error {
			more := true
			switch {
			case err != nil:
				more = yield(file{name, false}, err)
			case name != path && strings.HasPrefix(d.Name(), "."):
				if d.IsDir() {
					return fs.SkipDir
				}
			case d.IsDir():
			default:
				st, err := os.Stat(name) // through a link
				switch {
				case err != nil:
					more = yield(file{name, false}, err)
				case st.IsDir(): // a link to a folder
				default:
					more = yield(file{name, false}, regular(st))
				}
			}
			if !more {
				return fs.SkipAll
			}
			return nil
		})
		if err != nil && !yield(file{path, false}, err) {
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

// read returns a file's type and bytes, refusing one that is too large before it is in memory.
func (f file) read() (kind string, raw []byte, err error) {
	// Nonblocking, so that a pipe put in the file's place since cannot hold us.
	h, err := os.OpenFile(f.path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return "", nil, err
	}
	defer h.Close()
	st, err := h.Stat()
	if err != nil {
		return "", nil, err
	}
	if err := regular(st); err != nil {
		return "", nil, err
	}
	head := make([]byte, 4096)
	n, err := io.ReadFull(h, head)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return "", nil, err
	}
	if n == 0 {
		return "", nil, extract.ErrEmpty
	}
	if kind, err = extract.Type(f.path, head[:n]); err != nil {
		if !f.named {
			err = fmt.Errorf("%w: %w", errSkipped, err)
		}
		return "", nil, err
	}
	limit := extract.Limit(kind)
	if st.Size() > limit {
		return "", nil, fmt.Errorf("%w: %d bytes, the limit for %s is %d: split it", extract.ErrTooLarge, st.Size(), kind, limit)
	}
	rest, err := io.ReadAll(io.LimitReader(h, limit-int64(n)+1))
	if err != nil {
		return "", nil, err
	}
	return kind, append(head[:n:n], rest...), nil
}

// source is the file's URL; it is how the same file is known again.
func (f file) source() (string, error) {
	abs, err := filepath.Abs(f.path)
	if err != nil {
		return "", err
	}
	u := url.URL{Scheme: "file", Path: filepath.ToSlash(abs)}
	if s := u.String(); len(s) <= MaxSource {
		return s, nil
	}
	return "", fmt.Errorf("its path is too long: the limit is %d bytes", MaxSource)
}

// name is the file's own name as text that a database can hold.
func (f file) name() string {
	return strings.ToValidUTF8(filepath.Base(f.path), "\uFFFD")
}

// Count is how many files paths name and hold, for a progress bar.
func Count(paths []string) (n int) {
	walk(paths, func(file, error) bool { n++; return true })
	return n
}

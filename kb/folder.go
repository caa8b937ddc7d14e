package kb

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// ErrOutsideLink says that a link in a folder, or in an archive, leads out of it: it is skipped.
var ErrOutsideLink = errors.New("it is a link that leads out")

// Limits on folders.
const (
	maxFolders = 255 // within each other
	maxFollows = 40  // links that lead out of what a link led to, and so on
)

// walkDisk yields a file, or what a folder holds, until yield returns false. What is named is read wherever its name
// leads; what a folder holds is read through that folder alone (os.Root), so that no link leads out of it, whenever
// it is put there, unless links are to be followed. Folders are walked in name order; hidden entries are left out; a
// link to a folder inside is no other folder, so a loop ends.
func walkDisk(path string, follow bool, yield func(file, error) bool) (more bool) {
	st, err := os.Stat(path)
	if err != nil {
		return yield(file{path: path, named: true}, err)
	}
	if !st.IsDir() {
		return yield(file{path: path, named: true, stat: st}, isRegular(st))
	}
	w := &walker{follow: follow, yield: yield}
	return w.tree(path)
}

// walker walks a folder, and those that links lead to where they are followed.
type walker struct {
	follow  bool
	yield   func(file, error) bool // returns false to stop
	trees   []string               // folders that were walked, by their real names
	follows int
}

// folderTree is a folder that nothing leads out of.
type folderTree struct {
	*os.Root
	path, real string
}

// tree walks a folder; it returns false to stop.
func (w *walker) tree(path string) bool {
	root, err := os.OpenRoot(path)
	if err != nil {
		return w.yield(file{path: path}, err)
	}
	defer root.Close()
	real, err := filepath.EvalSymlinks(path)
	if err == nil {
		real, err = filepath.Abs(real)
	}
	if err != nil {
		return w.yield(file{path: path}, err)
	}
	w.trees = append(w.trees, real)
	return w.folder(folderTree{root, path, real}, ".", 0)
}

// folder walks a folder of a tree; it returns false to stop.
func (w *walker) folder(t folderTree, name string, depth int) bool {
	path := filepath.Join(t.path, name)
	entries, err := t.entries(name)
	if err == nil && depth > maxFolders {
		err = fmt.Errorf("it lies in more than %d folders within each other", maxFolders)
	}
	if err != nil {
		return w.yield(file{path: path}, err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") {
			continue
		}
		at, more := filepath.Join(name, e.Name()), true
		switch {
		case e.Type()&fs.ModeSymlink != 0:
			more = w.link(t, at)
		case e.IsDir():
			// A followed link may lead to a folder above one that was walked.
			if !slices.Contains(w.trees, filepath.Join(t.real, at)) {
				more = w.folder(t, at, depth+1)
			}
		default:
			more = w.file(t, filepath.Join(t.path, at), at)
		}
		if !more {
			return false
		}
	}
	return true
}

// entries are what a folder holds, by name. Nonblocking, as file.open is.
func (t folderTree) entries(name string) ([]fs.DirEntry, error) {
	d, err := t.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	entries, err := d.ReadDir(-1)
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return cmp.Compare(a.Name(), b.Name()) })
	return entries, err
}

// file yields a file of a tree under a path.
func (w *walker) file(t folderTree, path, name string) bool {
	st, err := t.Stat(name)
	if err != nil {
		return w.yield(file{path: path}, err)
	}
	return w.yield(file{path: path, in: t.Root, place: name, stat: st}, isRegular(st))
}

// link yields what a link leads to: a file of the tree, or, where links are followed, a file or a folder elsewhere.
func (w *walker) link(t folderTree, name string) bool {
	path := filepath.Join(t.path, name)
	target, err := filepath.EvalSymlinks(path)
	if err == nil {
		target, err = filepath.Abs(target)
	}
	if err != nil { // it leads nowhere, or round and round, which the system says more plainly
		if _, plain := os.Stat(path); plain != nil {
			err = plain
		}
		return w.yield(file{path: path}, err)
	}
	if inside, err := filepath.Rel(t.real, target); err == nil && filepath.IsLocal(inside) {
		if st, err := t.Stat(inside); err == nil && st.IsDir() { // it is walked in its own place
			return true
		}
		return w.file(t, path, inside)
	}
	st, err := os.Stat(path)
	switch {
	case !w.follow:
		return w.yield(file{path: path}, ErrOutsideLink)
	case err != nil:
		return w.yield(file{path: path}, err)
	case !st.IsDir():
		return w.yield(file{path: path, stat: st}, isRegular(st))
	case slices.ContainsFunc(w.trees, func(walked string) bool {
		at, err := filepath.Rel(walked, target)
		return err == nil && filepath.IsLocal(at)
	}):
		return true
	case w.follows == maxFollows:
		return w.yield(file{path: path},
			fmt.Errorf("more than %d links were followed, one behind the other", maxFollows))
	}
	w.follows++
	defer func() { w.follows-- }()
	return w.tree(path)
}

func isRegular(st fs.FileInfo) error {
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

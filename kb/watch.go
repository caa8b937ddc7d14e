package kb

import (
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// Watch looks at files and folders again and again.
type Watch struct {
	paths []string
	seen  map[string]stamp // as it was taken in
	last  map[string]stamp // as it was at the last look
}

// stamp is what tells that a file has changed.
type stamp struct {
	size int64
	at   time.Time
}

// NewWatch watches paths of this machine.
func NewWatch(paths []string) *Watch { return &Watch{paths: paths, seen: map[string]stamp{}} }

// Look returns the files that are new or changed since it returned them last, and were so at the look before too: one that is being written is
// waited for. present are all that are there; it is nil where that could not be told whole, or nothing is there at all, as with a disk that is not mounted.
func (w *Watch) Look() (changed []string, present map[string]bool) {
	now, whole := map[string]stamp{}, true
	for _, p := range w.paths {
		walkDisk(p, func(f file, err error) bool {
			var st fs.FileInfo
			if err == nil {
				st, err = os.Stat(f.path)
			}
			if err != nil {
				whole = false
				return true
			}
			now[f.path] = stamp{st.Size(), st.ModTime()}
			return true
		})
	}
	for path, s := range now {
		if w.seen[path] != s && (w.last == nil || w.last[path] == s) {
			changed = append(changed, path)
			w.seen[path] = s
		}
	}
	maps.DeleteFunc(w.seen, func(path string, _ stamp) bool { _, there := now[path]; return !there })
	w.last = now
	slices.Sort(changed)
	if !whole || len(now) == 0 {
		return changed, nil
	}
	present = make(map[string]bool, len(now))
	for path := range now {
		if abs, err := filepath.Abs(path); err == nil {
			present[abs] = true
		}
	}
	return changed, present
}

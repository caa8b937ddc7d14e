package kb

import (
	"errors"
	"maps"
	"path/filepath"
	"slices"
	"time"
)

// Watch looks at files and folders again and again.
type Watch struct {
	paths  []string
	follow bool
	seen   map[string]stamp // as it was taken in
	last   map[string]stamp // as it was at the last look
}

// stamp is what tells that a file has changed.
type stamp struct {
	size int64
	at   time.Time
}

// NewWatch watches paths of this machine, and what links lead to that lead out of folders where these are followed.
func NewWatch(paths []string, followLinks bool) *Watch {
	return &Watch{paths: paths, follow: followLinks, seen: map[string]stamp{}}
}

// stable reports that a file was the same at the last look.
func stable(last map[string]stamp, path string, s stamp) bool {
	was, there := last[path]
	return there && was == s
}

// Look returns the files that are new or changed since it returned them last, and were so at the look before too: one that is being written is
// waited for. present are all that are there; it is nil where that could not be told whole, or nothing is there at all, as with a disk that is not mounted.
func (w *Watch) Look() (changed []string, present map[string]bool) {
	now, whole := map[string]stamp{}, true
	for _, p := range w.paths {
		walkDisk(p, w.follow, func(f file, err error) bool {
			switch {
			case errors.Is(err, ErrLinkOut): // it is there, and told of once
				now[f.path] = stamp{}
			case err != nil:
				whole = false
			default:
				now[f.path] = stamp{f.stat.Size(), f.stat.ModTime()}
			}
			return true
		})
	}
	for path, s := range now {
		if was, known := w.seen[path]; (!known || was != s) && (w.last == nil || stable(w.last, path, s)) {
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

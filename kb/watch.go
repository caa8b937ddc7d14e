package kb

import (
	"errors"
	"maps"
	"path/filepath"
	"slices"
	"time"
)

// Watcher looks at files and folders again and again.
type Watcher struct {
	paths  []string
	follow bool
	seen   map[string]fileStamp // when it was ingested
	last   map[string]fileStamp // at the last scan
}

// fileStamp changes when a file does.
type fileStamp struct {
	size int64
	at   time.Time
}

// NewWatcher watches paths of this machine, and what links lead to that lead out of folders where these are followed.
func NewWatcher(paths []string, followLinks bool) *Watcher {
	return &Watcher{paths: paths, follow: followLinks, seen: map[string]fileStamp{}}
}

// isStable reports that a file was the same at the last look.
func isStable(last map[string]fileStamp, path string, s fileStamp) bool {
	was, there := last[path]
	return there && was == s
}

// Scan returns the files that are new or changed since it last returned them, and have not changed since the previous
// scan: it waits for files that are being written. present are all files; it is nil where the listing is incomplete or
// empty, as on a disk that is not mounted.
func (w *Watcher) Scan() (changed []string, present map[string]bool) {
	now, whole := map[string]fileStamp{}, true
	for _, p := range w.paths {
		walkDisk(p, w.follow, func(f file, err error) bool {
			switch {
			case errors.Is(err, ErrOutsideLink): // it exists, and is reported once
				now[f.path] = fileStamp{}
			case err != nil:
				whole = false
			default:
				now[f.path] = fileStamp{f.stat.Size(), f.stat.ModTime()}
			}
			return true
		})
	}
	for path, s := range now {
		if was, known := w.seen[path]; (!known || was != s) && (w.last == nil || isStable(w.last, path, s)) {
			changed = append(changed, path)
			w.seen[path] = s
		}
	}
	maps.DeleteFunc(w.seen, func(path string, _ fileStamp) bool { _, there := now[path]; return !there })
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

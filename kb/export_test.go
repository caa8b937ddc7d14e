package kb

import "io"

// WalkAndRead is what is read of the files that a path names or holds, by their paths; between is called after each was
// looked at and before it is opened.
func WalkAndRead(path string, follow bool, between func(path string)) map[string]string {
	got := map[string]string{}
	walkDisk(path, follow, func(f file, err error) bool {
		if between(f.path); err != nil {
			got[f.path] = err.Error()
			return true
		}
		h, _, err := f.open()
		if err != nil {
			got[f.path] = err.Error()
			return true
		}
		defer h.Close()
		raw, err := io.ReadAll(h)
		got[f.path] = string(raw)
		if err != nil {
			got[f.path] = err.Error()
		}
		return true
	})
	return got
}

// TextLanguage is the language that a text which states none is read in, in a tenant of its own.
var TextLanguage = textLanguage

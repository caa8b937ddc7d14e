package extract

import (
	"path"
	"strings"
	"time"
)

// core reads docProps/core.xml, the properties of Office files.
func (w *writer) core(p *parcel) error {
	return w.properties(p, "docProps/core.xml", map[string]func(string){
		"title": func(s string) {
			w.Title = s
		}, "creator": func(s string) { w.Author = s }, "language": func(s string) { w.Language = s },
		"created": func(s string) { w.Created = instant(s) }, "modified": func(s string) { w.Modified = instant(s) },
	})
}

// properties reads elements with one value each.
func (w *writer) properties(p *parcel, part string, set map[string]func(string)) error {
	raw, err := p.read(part)
	if err != nil || raw == nil {
		return err
	}
	var text strings.Builder
	return readXML(p.ctx, raw, events{
		open: func(*element) (bool, error) { text.Reset(); return false, nil },
		text: func(s string) { text.WriteString(s) },
		close: func(e *element) error {
			if to := set[e.Name.Local]; to != nil {
				if s := collapseSpaces(text.String()); s != "" {
					to(s)
				}
			}
			text.Reset()
			return nil
		},
	})
}

// instant parses a time in a file's metadata; zero if invalid.
func instant(s string) time.Time {
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02"} {
		if at, err := time.Parse(layout, s); err == nil {
			return at.UTC()
		}
	}
	return time.Time{}
}

// relations returns the internal relationships of a part of an Office file, by their ids.
func relations(p *parcel, part string) (byID map[string]relation, err error) {
	raw, err := p.read(path.Join(path.Dir(part), "_rels", path.Base(part)+".rels"))
	if err != nil || raw == nil {
		return nil, err
	}
	byID = map[string]relation{}
	err = readXML(p.ctx, raw, events{open: func(e *element) (bool, error) {
		if e.is("Relationship") && e.attr("TargetMode") != "External" {
			target := e.attr("Target")
			if strings.HasPrefix(target, "/") {
				target = target[1:]
			} else {
				target = path.Join(path.Dir(part), target)
			}
			byID[e.attr("Id")] = relation{path.Base(e.attr("Type")), target}
		}
		return false, nil
	}})
	return byID, err
}

type relation struct{ kind, target string }

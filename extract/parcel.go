package extract

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"golang.org/x/net/html/charset"
)

// Limits on a ZIP-based file.
const (
	maxParts    = 20_000    // files in it
	maxUnpacked = 256 << 20 // unpacked bytes of all parts that are read
	maxPart     = 64 << 20  // unpacked bytes of one part
	maxDepth    = 256       // nesting of XML elements
)

// parcel is a ZIP-based document: an office file or an e-book.
type parcel struct {
	ctx   context.Context
	files map[string]*zip.File
	left  int64 // budget of unpacked bytes
}

// unpack lists the parts. It writes nothing, and ignores the sizes that the ZIP states.
func unpack(ctx context.Context, raw []byte) (*parcel, error) {
	z, err := zip.NewReader(bytes.NewReader(raw), int64(len(raw)))
	if err != nil && !errors.Is(err, zip.ErrInsecurePath) { // names are only looked up, never written to
		return nil, fmt.Errorf("it is damaged: %w", err)
	}
	if len(z.File) > maxParts {
		return nil, fmt.Errorf("%w: %d files inside it, the limit is %d", ErrTooLarge, len(z.File), maxParts)
	}
	p := &parcel{ctx: ctx, files: make(map[string]*zip.File, len(z.File)), left: maxUnpacked}
	for _, f := range z.File {
		name := path.Clean(strings.TrimPrefix(f.Name, "/"))
		if _, twice := p.files[name]; twice {
			return nil, fmt.Errorf("%.80q is inside it twice", name)
		}
		p.files[name] = f
	}
	return p, nil
}

// open opens a part. The reader fails when the context ends, and returns at most limit+1 bytes.
func (p *parcel) open(name string, limit int64) (io.ReadCloser, error) {
	f := p.files[name]
	if f.Flags&1 != 0 {
		return nil, ErrEncrypted
	}
	r, err := f.Open()
	if err != nil {
		return nil, fmt.Errorf("unpack %.80q: %w", name, err)
	}
	return struct {
		io.Reader
		io.Closer
	}{io.LimitReader(Until(p.ctx, r), limit+1), r}, nil
}

// read returns a part's content, or nil without it.
func (p *parcel) read(name string) ([]byte, error) {
	if p.files[name] == nil {
		return nil, nil
	}
	limit := min(p.left, maxPart)
	r, err := p.open(name, limit)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	raw, err := io.ReadAll(r)
	if err != nil {
		return nil, fmt.Errorf("unpack %.80q: %w", name, err)
	}
	if int64(len(raw)) > limit {
		return nil, fmt.Errorf("%w: %.80q unpacks to more than %d bytes", ErrTooLarge, name, limit)
	}
	p.left -= int64(len(raw))
	return raw, nil
}

// Until returns a reader that fails when the context ends.
func Until(ctx context.Context, r io.Reader) io.Reader { return &untilDone{ctx, r} }

// untilDone is Until's reader.
type untilDone struct {
	ctx context.Context
	r   io.Reader
}

// Read implements io.Reader.
func (u *untilDone) Read(b []byte) (int, error) {
	if err := u.ctx.Err(); err != nil {
		return 0, err
	}
	return u.r.Read(b)
}

// element is an XML element's start; its methods ignore namespace prefixes.
type element struct {
	xml.StartElement
	around *element // nil for the outermost
	depth  int      // 1 for the outermost
}

// is reports whether the element has this name.
func (e *element) is(name string) bool { return e.Name.Local == name }

// attr returns an attribute's value, or "".
func (e *element) attr(name string) string {
	for _, a := range e.Attr {
		if a.Name.Local == name {
			return a.Value
		}
	}
	return ""
}

// inside reports whether an element of this name encloses it.
func (e *element) inside(name string) bool {
	for at := e.around; at != nil; at = at.around {
		if at.is(name) {
			return true
		}
	}
	return false
}

// events are the callbacks of readXML, in document order; open may skip an element.
type events struct {
	open  func(*element) (skip bool, err error)
	close func(*element) error
	text  func(s string)
}

// readXML calls on for each element. It knows only XML's five predefined entities and reads nothing external, so
// neither entity expansion nor external references are possible.
func readXML(ctx context.Context, raw []byte, on events) error {
	d := xml.NewDecoder(bytes.NewReader(raw))
	d.CharsetReader = charset.NewReaderLabel
	var at *element // the innermost open element
	for n := 0; ; n++ {
		if n%1024 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		token, err := d.RawToken()
		if errors.Is(err, io.EOF) {
			if at != nil {
				return fmt.Errorf("its XML ends inside <%.60s>", at.Name.Local)
			}
			return nil
		}
		if err != nil {
			return fmt.Errorf("its XML is damaged: %w", err)
		}
		switch t := token.(type) {
		case xml.StartElement:
			depth := 1
			if at != nil {
				depth = at.depth + 1
			}
			if depth > maxDepth {
				return fmt.Errorf("%w: its XML is nested more than %d deep", ErrTooLarge, maxDepth)
			}
			at = &element{t.Copy(), at, depth}
			if on.open != nil {
				skip, err := on.open(at)
				if err != nil {
					return err
				}
				if skip {
					if err := skipXML(ctx, d, depth); err != nil {
						return err
					}
					at = at.around
				}
			}
		case xml.EndElement:
			if at == nil || !at.is(t.Name.Local) {
				return fmt.Errorf("its XML is damaged: </%.60s> ends what was not begun", t.Name.Local)
			}
			e := at
			at = at.around
			if on.close != nil {
				if err := on.close(e); err != nil {
					return err
				}
			}
		case xml.CharData:
			if on.text != nil && at != nil {
				on.text(string(t))
			}
		}
	}
}

// skipXML skips to the end of the element just opened.
func skipXML(ctx context.Context, d *xml.Decoder, above int) error {
	for depth, n := 1, 0; depth > 0; n++ {
		if n%1024 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		token, err := d.RawToken()
		if err != nil {
			return fmt.Errorf("its XML is damaged: %w", err)
		}
		switch token.(type) {
		case xml.StartElement:
			if depth++; above+depth > 16*maxDepth {
				return fmt.Errorf("%w: its XML is nested more than %d deep", ErrTooLarge, 16*maxDepth)
			}
		case xml.EndElement:
			depth--
		}
	}
	return nil
}

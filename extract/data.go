package extract

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

// readJSON reads JSON and JSON Lines: each leaf with its path, and an object in a list as one block.
func readJSON(ctx context.Context, raw []byte) (*Document, error) {
	text, err := decode(raw)
	if err != nil {
		return nil, err
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	w := &writer{}
	for {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		v, err := readValue(d, 0)
		if errors.Is(err, io.EOF) {
			return &w.Document, nil
		}
		if err != nil {
			return nil, fmt.Errorf("its JSON is damaged at byte %d: %w", d.InputOffset(), err)
		}
		if err := w.value("", v, 0); err != nil {
			return nil, err
		}
	}
}

// member is a name and value of an object, in the file's order. An object is a []member, a list a []any.
type member struct {
	name  string
	value any
}

func readValue(d *json.Decoder, depth int) (any, error) {
	token, err := d.Token()
	if err != nil {
		if depth > 0 && errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	delim, is := token.(json.Delim)
	if !is {
		return token, nil
	}
	if depth == maxDepth {
		return nil, fmt.Errorf("%w: nested more than %d deep", ErrTooLarge, maxDepth)
	}
	switch delim {
	case '[':
		list := []any{}
		for d.More() {
			v, err := readValue(d, depth+1)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		return list, ended(d)
	default: // '{': the decoder returns no closing delimiter here
		object := []member{}
		for d.More() {
			key, err := d.Token()
			if err != nil {
				return nil, err
			}
			v, err := readValue(d, depth+1)
			if err != nil {
				return nil, err
			}
			object = append(object, member{fmt.Sprint(key), v})
		}
		return object, ended(d)
	}
}

// ended consumes the end of a list or object.
func ended(d *json.Decoder) error {
	_, err := d.Token()
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// value writes a value's blocks. Objects of the first levels are headings; deeper ones are one line.
func (w *writer) value(name string, v any, level int) error {
	switch v := v.(type) {
	case []member:
		if level > 3 {
			return w.add(Block{Kind: Item, Text: labelled(name, inLine(v))})
		}
		if name != "" {
			if err := w.add(Block{Kind: Heading, Level: level, Text: name}); err != nil {
				return err
			}
		}
		// Scalars first: below a nested heading they would look like its content.
		for _, nested := range []bool{false, true} {
			for _, m := range v {
				if isNested(m.value) == nested {
					if err := w.value(m.name, m.value, level+1); err != nil {
						return err
					}
				}
			}
		}
		return nil
	case []any:
		if name != "" && len(v) > 0 && isNested(v[0]) {
			if err := w.add(Block{Kind: Heading, Level: max(1, min(level, 6)), Text: name}); err != nil {
				return err
			}
			name = ""
		}
		for _, x := range v {
			if err := w.add(Block{Kind: Item, Text: labelled(name, inLine(x))}); err != nil {
				return err
			}
		}
		return nil
	}
	return w.add(Block{Kind: Item, Text: labelled(name, inLine(v))})
}

func isNested(v any) bool {
	switch v := v.(type) {
	case []member:
		return true
	case []any:
		return len(v) > 0 && isNested(v[0])
	}
	return false
}

func labelled(name, value string) string {
	if name == "" || value == "" {
		return value
	}
	return name + ": " + value
}

// inLine formats a value in one line.
func inLine(v any) string {
	var parts []string
	switch v := v.(type) {
	case nil:
		return ""
	case []member:
		for _, m := range v {
			if s := inLine(m.value); s != "" {
				parts = append(parts, m.name+": "+s)
			}
		}
		return strings.Join(parts, "; ")
	case []any:
		for _, x := range v {
			if s := inLine(x); s != "" {
				parts = append(parts, s)
			}
		}
		return strings.Join(parts, ", ")
	}
	return collapseSpaces(fmt.Sprint(v))
}

// readPlainXML reads any XML: the outermost element with text of its own is a block, with everything in it.
func readPlainXML(ctx context.Context, raw []byte) (*Document, error) {
	w := &writer{}
	var text strings.Builder
	var within, holder *element // the open element, and the one whose text is collected
	return &w.Document, readXML(ctx, raw, events{
		open: func(e *element) (bool, error) {
			if within = e; holder != nil {
				text.WriteByte(' ')
			}
			return false, nil
		},
		text: func(s string) {
			if holder == nil && strings.TrimSpace(s) != "" {
				holder = within
			}
			if holder != nil {
				text.WriteString(s)
			}
		},
		close: func(e *element) error {
			if within = e.around; holder != e {
				return nil
			}
			b := Block{Text: text.String()}
			if e.is("title") {
				if b.Kind, b.Level = Heading, max(1, min(e.depth-1, 6)); w.Title == "" {
					w.Title = collapseSpaces(b.Text)
				}
			}
			text.Reset()
			holder = nil
			return w.add(b)
		},
	})
}

// readNotebook reads a Jupyter notebook (nbformat 4): text cells, code cells, and text outputs.
func readNotebook(ctx context.Context, raw []byte) (*Document, error) {
	var n struct {
		Cells []struct {
			Kind    string `json:"cell_type"`
			Source  lines  `json:"source"`
			Outputs []struct {
				Text lines                      `json:"text"`
				Data map[string]json.RawMessage `json:"data"`
			} `json:"outputs"`
		} `json:"cells"`
		Metadata struct {
			Title string `json:"title"`
		} `json:"metadata"`
	}
	if err := json.Unmarshal(raw, &n); err != nil {
		return nil, fmt.Errorf("read the notebook: %w", err)
	}
	w := &writer{}
	w.Title = n.Metadata.Title
	for _, c := range n.Cells {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		switch c.Kind {
		case "markdown":
			d, err := readMarkdown([]byte(c.Source))
			if err != nil {
				return nil, err
			}
			w.Title = firstText(w.Title, d.Title)
			if err := w.all(d, 0); err != nil {
				return nil, err
			}
		case "code", "raw":
			if err := w.add(Block{Kind: Code, Text: strings.Trim(string(c.Source), "\n")}); err != nil {
				return nil, err
			}
		}
		for _, o := range c.Outputs {
			var shown lines
			if plain := o.Data["text/plain"]; plain != nil {
				if err := json.Unmarshal(plain, &shown); err != nil {
					return nil, fmt.Errorf("read the notebook: %w", err)
				}
			}
			if err := w.add(Block{Kind: Code, Text: strings.Trim(string(o.Text+shown), "\n")}); err != nil {
				return nil, err
			}
		}
	}
	return &w.Document, nil
}

// lines is text that may be encoded as a list of lines.
type lines string

// UnmarshalJSON implements json.Unmarshaler.
func (l *lines) UnmarshalJSON(raw []byte) error {
	var one string
	if json.Unmarshal(raw, &one) == nil {
		*l = lines(one)
		return nil
	}
	var many []string
	if err := json.Unmarshal(raw, &many); err != nil {
		return err
	}
	*l = lines(strings.Join(many, ""))
	return nil
}

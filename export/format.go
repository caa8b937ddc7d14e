package export

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/google/uuid"

	"github.com/konstruct/konstruct/audit"
)

// Formats are the names of the export formats.
var Formats = []string{"jsonl", "csv", "parquet", "ocsf", "cloudevents"}

// encoder writes events in a format. end completes the file.
type encoder interface {
	add(tenant uuid.UUID, e *audit.StoredEvent) error
	end() error
}

type format struct {
	extension string
	open      func(io.Writer) (encoder, error)
}

// CheckFormat returns an error for an unknown format's name.
func CheckFormat(name string) error {
	_, err := formatOf(name)
	return err
}

func formatOf(name string) (format, error) {
	switch name {
	case "jsonl":
		return format{"jsonl", newJSONLines(func(_ uuid.UUID, e *audit.StoredEvent) any {
			plain := *e
			plain.Cursor = ""
			return plain
		})}, nil
	case "csv":
		return format{"csv", openCSV}, nil
	case "parquet":
		return format{"parquet", openParquet}, nil
	case "ocsf":
		return format{"ocsf.jsonl", newJSONLines(ocsf)}, nil
	case "cloudevents":
		return format{"cloudevents.jsonl", newJSONLines(cloudEvent)}, nil
	}
	return format{}, fmt.Errorf("%.40q is none of %s", name, strings.Join(Formats, ", "))
}

// part is a file being written, in memory.
type part struct {
	format  format
	tenant  uuid.UUID
	buf     bytes.Buffer
	encoder encoder
	events  int64
	cursor  string
}

func (p *part) open() (err error) {
	if p.encoder == nil {
		p.encoder, err = p.format.open(&p.buf)
	}
	return err
}

func (p *part) add(e *audit.StoredEvent) error {
	if err := p.open(); err != nil {
		return err
	}
	p.events++
	p.cursor = e.Cursor
	return p.encoder.add(p.tenant, e)
}

// end completes the file, also if it has no events.
func (p *part) end() error {
	if err := p.open(); err != nil {
		return err
	}
	return p.encoder.end()
}

func (p *part) finish() ([]byte, error) {
	err := p.end()
	return p.buf.Bytes(), err
}

// jsonLines writes one JSON value a line.
type jsonLines struct {
	to    *json.Encoder
	value func(uuid.UUID, *audit.StoredEvent) any
}

func newJSONLines(value func(uuid.UUID, *audit.StoredEvent) any) func(io.Writer) (encoder, error) {
	return func(w io.Writer) (encoder, error) {
		to := json.NewEncoder(w)
		to.SetEscapeHTML(false)
		return &jsonLines{to, value}, nil
	}
}

func (l *jsonLines) add(tenant uuid.UUID, e *audit.StoredEvent) error {
	return l.to.Encode(l.value(tenant, e))
}
func (l *jsonLines) end() error { return nil }

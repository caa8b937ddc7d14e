// Package export writes a tenant's events for other tools, as JSON Lines, CSV, Parquet, OCSF and CloudEvents: in parts
// in a folder or bucket, with a manifest that can be verified, or as one stream. It knows formats and targets. It must
// not know a database: the caller gives it the events.
package export

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"time"

	"github.com/google/uuid"

	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/blob"
	"github.com/konstruct/konstruct/plural"
)

// version is the version of the manifest format.
const version = "konstruct/export/v1"

// manifestFile is the manifest's name in the bucket.
const manifestFile = "manifest.json"

// Source yields the tenant's events that match a filter, oldest first by created_at, after the filter's cursor. After
// an error it yields nothing more.
type Source func(ctx context.Context, f audit.Filter) iter.Seq2[*audit.StoredEvent, error]

// Manifest describes an export.
type Manifest struct {
	Version   string    `json:"version"`
	Tenant    uuid.UUID `json:"tenant_id"`
	Format    string    `json:"format"`
	Filter    Filter    `json:"filter"`
	StartedAt time.Time `json:"begun_at"`
	Parts     []Part    `json:"parts"`
	Events    int64     `json:"events"`
	// Complete is true if all events that match the filter are exported. Otherwise the same export can be resumed.
	Complete bool `json:"complete"`
}

// Filter selects the exported events.
type Filter struct {
	Since    time.Time      `json:"since,omitzero"` // of created_at, inclusive
	Until    time.Time      `json:"until"`          // exclusive; the export's start if the caller gave none
	AgentID  uuid.UUID      `json:"agent_id,omitzero"`
	UserID   string         `json:"user_id,omitempty"`
	Action   string         `json:"action_type,omitempty"`
	Metadata audit.Metadata `json:"metadata,omitempty"`
}

// Part is one file of an export.
type Part struct {
	Name   string `json:"name"`
	Events int64  `json:"events"`
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"`
	Cursor string `json:"cursor"` // of its last event: where to resume
}

// Options configure an export.
type Options struct {
	Tenant uuid.UUID
	Format string       // one of Formats
	Filter audit.Filter // without After and Limit, unless it is a stream
	// PartEvents is how many events a part has at most; 0 means DefaultPart. A part also ends at about 16 MiB.
	PartEvents int64
	// Progress, if not nil, is called with the number of events written.
	Progress func(events int64)
}

// DefaultPart is the default of Options.PartEvents.
const DefaultPart = 100_000

// partBytes is the size in bytes at which a part ends, because it is made in memory.
const partBytes = 16 << 20

// Errors of exports.
var (
	ErrComplete  = errors.New("this export is complete already")
	ErrDifferent = errors.New("the target has another export")
	ErrBroken    = errors.New("the export fails verification")
	ErrCursor    = errors.New("an export has all events of its filter: it begins after no cursor, and has no limit")
)

// Export writes an export into a bucket, or resumes one that is not complete. Every part that the manifest names is
// there, whole; a part whose write failed is not named, and is written again. It returns the manifest and its SHA-256
// in hex.
func Export(ctx context.Context, from Source, to blob.Bucket, o Options) (m *Manifest, sum string, err error) {
	format, err := formatOf(o.Format)
	if err != nil {
		return nil, "", err
	}
	if m, err = startManifest(ctx, to, &o); err != nil {
		return nil, "", err
	}
	if n := len(m.Parts); n > 0 {
		o.Filter.After = m.Parts[n-1].Cursor
	}
	p := &part{format: format, tenant: o.Tenant}
	put := func() error {
		if p.events == 0 {
			return nil
		}
		raw, err := p.finish()
		if err != nil {
			return err
		}
		name := fmt.Sprintf("events-%06d.%s", len(m.Parts)+1, format.extension)
		if err := to.Write(ctx, name, raw); err != nil {
			return fmt.Errorf("write %s: %w", name, err)
		}
		h := sha256.Sum256(raw)
		m.Parts = append(m.Parts, Part{name, p.events, int64(len(raw)), hex.EncodeToString(h[:]), p.cursor})
		m.Events += p.events
		*p = part{format: format, tenant: o.Tenant}
		if o.Progress != nil {
			o.Progress(m.Events)
		}
		_, err = saveManifest(ctx, to, m)
		return err
	}
	err = p.addAll(from(ctx, o.Filter), func() error {
		if p.events >= o.PartEvents || p.buf.Len() >= partBytes {
			return put()
		}
		return nil
	})
	if err == nil {
		err = put()
	}
	if err != nil {
		return m, "", fmt.Errorf("export: %w", err)
	}
	m.Complete = true
	if sum, err = saveManifest(ctx, to, m); err != nil {
		return m, "", fmt.Errorf("export: %w", err)
	}
	return m, sum, nil
}

// startManifest returns the bucket's manifest to resume, or a new one. It fails if the bucket has a complete or a
// different export.
func startManifest(ctx context.Context, to blob.Bucket, o *Options) (*Manifest, error) {
	f := o.Filter
	if f.After != "" || f.Limit != 0 { // the manifest could not say so, and would call the export complete
		return nil, fmt.Errorf("export: %w", ErrCursor)
	}
	if o.PartEvents <= 0 {
		o.PartEvents = DefaultPart
	}
	m := &Manifest{Version: version, Tenant: o.Tenant, Format: o.Format,
		StartedAt: time.Now().UTC().Truncate(time.Millisecond), Parts: []Part{},
		Filter: Filter{f.Since.UTC(), f.Until.UTC(), f.AgentID, f.UserID, f.Action, f.Metadata}}
	there, _, err := Read(ctx, to)
	switch {
	case err != nil:
		return nil, err
	case there == nil:
		if f.Until.IsZero() {
			m.Filter.Until = m.StartedAt
		}
	case there.Complete:
		return nil, fmt.Errorf("export: %w: %s in %s, started at %s; choose another target", ErrComplete,
			plural.Of(there.Events, "event", "events"), plural.Of(len(there.Parts), "part", "parts"),
			there.StartedAt.Format(time.RFC3339))
	default:
		if f.Until.IsZero() {
			m.Filter.Until = there.Filter.Until
		}
		m.StartedAt, m.Parts, m.Events = there.StartedAt, there.Parts, there.Events
		was, _ := json.Marshal(there)
		if now, _ := json.Marshal(m); string(was) != string(now) {
			return nil, fmt.Errorf("export: %w, of tenant %s as %s with another filter or format, and not complete: "+
				"resume it with the same options, or choose another target", ErrDifferent, there.Tenant, there.Format)
		}
	}
	o.Filter.Until = m.Filter.Until
	return m, nil
}

func saveManifest(ctx context.Context, to blob.Bucket, m *Manifest) (string, error) {
	raw, err := json.MarshalIndent(m, "", "  ")
	if err == nil {
		err = to.Write(ctx, manifestFile, raw)
	}
	if err != nil {
		return "", fmt.Errorf("write %s: %w", manifestFile, err)
	}
	h := sha256.Sum256(raw)
	return hex.EncodeToString(h[:]), nil
}

// Read returns a bucket's manifest and its SHA-256 in hex; nil if there is none.
func Read(ctx context.Context, from blob.Bucket) (*Manifest, string, error) {
	raw, err := from.Read(ctx, manifestFile)
	if err != nil {
		return nil, "", fmt.Errorf("read %s: %w", manifestFile, err)
	}
	if raw == nil {
		return nil, "", nil
	}
	var m Manifest
	if err := json.Unmarshal(raw, &m); err != nil || m.Version != version {
		return nil, "", fmt.Errorf("%w: %s is not an export's manifest", ErrDifferent, manifestFile)
	}
	h := sha256.Sum256(raw)
	return &m, hex.EncodeToString(h[:]), nil
}

// Verify reads every part and compares it with the manifest. It returns the manifest and its SHA-256 in hex, to be
// compared with the one in the trail, where the export is recorded. An export that is not complete verifies too: the
// parts that its manifest names are there. Whoever needs every event looks at Manifest.Complete.
func Verify(ctx context.Context, from blob.Bucket) (*Manifest, string, error) {
	m, sum, err := Read(ctx, from)
	if err != nil {
		return nil, "", err
	}
	if m == nil {
		return nil, "", fmt.Errorf("%w: there is no %s", ErrBroken, manifestFile)
	}
	total := int64(0)
	for _, p := range m.Parts {
		raw, err := from.Read(ctx, p.Name)
		if err != nil {
			return m, sum, fmt.Errorf("read %s: %w", p.Name, err)
		}
		h := sha256.Sum256(raw)
		switch {
		case raw == nil:
			return m, sum, fmt.Errorf("%w: %s is gone", ErrBroken, p.Name)
		case int64(len(raw)) != p.Bytes || hex.EncodeToString(h[:]) != p.SHA256:
			return m, sum, fmt.Errorf("%w: %s was changed", ErrBroken, p.Name)
		}
		total += p.Events
	}
	if total != m.Events {
		return m, sum, fmt.Errorf("%w: the parts have %s and the manifest says %d", ErrBroken,
			plural.Of(total, "event", "events"), m.Events)
	}
	return m, sum, nil
}

// addAll adds events; it calls after once for each.
func (p *part) addAll(events iter.Seq2[*audit.StoredEvent, error], after func() error) error {
	for e, err := range events {
		if err != nil {
			return err
		}
		if err := p.add(e); err != nil {
			return fmt.Errorf("event %s: %w", e.ID, err)
		}
		if err := after(); err != nil {
			return err
		}
	}
	return nil
}

// Stream writes an export as one file to w, and returns its number of events and its SHA-256 in hex.
func Stream(ctx context.Context, from Source, w io.Writer, o Options) (events int64, sum string, err error) {
	format, err := formatOf(o.Format)
	if err != nil {
		return 0, "", err
	}
	h := sha256.New()
	to := io.MultiWriter(w, h)
	p := &part{format: format, tenant: o.Tenant}
	flush := func() error {
		_, err := p.buf.WriteTo(to)
		return err
	}
	err = p.addAll(from(ctx, o.Filter), func() error {
		if p.buf.Len() < 1<<16 {
			return nil
		}
		if o.Progress != nil {
			o.Progress(p.events)
		}
		return flush()
	})
	if err == nil {
		if err = p.end(); err == nil {
			err = flush()
		}
	}
	if err != nil {
		return p.events, "", fmt.Errorf("export: %w", err)
	}
	return p.events, hex.EncodeToString(h.Sum(nil)), nil
}

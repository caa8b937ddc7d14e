package mcpserver

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/konstruct/konstruct/access"
	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/strictjson"
)

type logArguments struct {
	Action    string          `json:"action_type" min:"1" max:"1024" jsonschema:"as llm_call, or your own"`
	Input     string          `json:"input_summary,omitempty" jsonschema:"what it was given"`
	Output    string          `json:"output_summary,omitempty" jsonschema:"what came of it"`
	LatencyMS int64           `json:"latency_ms,omitempty" min:"0" max:"2147483647" jsonschema:"how long it took"`
	Metadata  json.RawMessage `json:"metadata,omitempty" jsonschema:"by OpenTelemetry names, or others"`
	CreatedAt string          `json:"created_at,omitempty" max:"40" jsonschema:"RFC 3339; now by default"`
	ID        string          `json:"id,omitempty" max:"36" jsonschema:"a UUID: a retry with it is logged once"`
	conversation
}

type logged struct {
	ID      *uuid.UUID `json:"id,omitempty" jsonschema:"the event's"`
	Gap     bool       `json:"gap,omitempty" jsonschema:"it was not logged: the gap is, later"`
	Address string     `json:"url,omitempty" jsonschema:"where to read it"`
}

// newLogged returns the result of a logged event: the zero id is a gap, which the tenant's policy allows.
func newLogged(id uuid.UUID) logged {
	if id == uuid.Nil {
		return logged{Gap: true}
	}
	return logged{ID: &id, Address: eventURI(id)}
}

func (s *Server) logTool() tool {
	return newTool("log_event", "Log an event",
		"Writes an action of yours to the audit trail, which nobody can change or delete. When it returns, the event "+
			"is committed and sealed.", writes,
		func(ctx context.Context, c *call, in logArguments) (logged, error) {
			id, err := optionalID("id", in.ID)
			if err != nil {
				return logged{}, err
			}
			at, err := optionalTime("created_at", in.CreatedAt)
			if err != nil {
				return logged{}, err
			}
			metadata, err := c.describe(in.Metadata)
			if err != nil {
				return logged{}, err
			}
			return c.log(ctx, audit.Event{ID: id, AgentID: c.AgentID, UserID: c.UserID, Action: in.Action,
				Input:  in.Input,
				Output: in.Output, Latency: time.Duration(in.LatencyMS) * time.Millisecond, At: at, Metadata: metadata})
		}, access.EventsWrite)
}

// log writes an event of the caller's own, which is the event of the call, too.
func (c *call) log(ctx context.Context, e audit.Event) (logged, error) {
	id, err := c.agent().Log(ctx, e)
	if errors.Is(err, audit.ErrIDTaken) {
		return logged{}, argument("id", "another event has it: leave it out, or draw a new one")
	}
	if err != nil {
		return logged{}, err
	}
	c.event, c.recorded = id, true
	if e.ID = id; id != uuid.Nil && c.s.c.Recorded != nil {
		c.s.c.Recorded(c.Principal, e)
	}
	return newLogged(id), nil
}

// describe adds to an event's metadata how it came. What the caller says of a trace or a conversation stays; what the
// service knows, nobody else says.
func (c *call) describe(given json.RawMessage) (json.RawMessage, error) {
	m := map[string]any{}
	if len(given) > 0 && string(given) != "null" {
		if given[0] != '{' {
			return nil, argument("metadata", "it must be an object")
		}
		d := json.NewDecoder(bytes.NewReader(given))
		d.UseNumber()
		if err := d.Decode(&m); err != nil {
			return nil, argument("metadata", "it can't be read")
		}
	}
	own := c.metadata()
	if run := c.run(); run != "" {
		own["gen_ai.conversation.id"] = run
	}
	for name, value := range own {
		_, there := m[name]
		switch {
		case !there:
			m[name] = value
		case strings.HasPrefix(name, "mcp.") || strings.HasPrefix(name, "jsonrpc."):
			return nil, argument("metadata",
				"%s says how the event came here, which the service writes: use another name",
				name)
		}
	}
	raw, err := strictjson.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encode an event's metadata: %w", err)
	}
	return raw, nil
}

// optionalTime reads a time that may be missing.
func optionalTime(field, s string) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	t, err := time.Parse(time.RFC3339Nano, s)
	if u := t.UTC().Truncate(time.Microsecond); err != nil || u.Year() < 1 || u.Year() > 9999 || u.IsZero() {
		return t, argument(field, "it is not a time: write 2026-01-31T12:00:00Z")
	}
	return t, nil
}

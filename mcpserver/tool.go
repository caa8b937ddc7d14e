package mcpserver

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/google/jsonschema-go/jsonschema"
	"github.com/google/uuid"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/konstruct/konstruct/access"
	"github.com/konstruct/konstruct/strictjson"
)

// tool is one tool, with what it takes to use it.
type tool struct {
	definition *mcp.Tool
	needs      []access.Permission // one of them
	long       bool                // it may take longTime
	handle     mcp.ToolHandler
}

// allows reports whether a principal may use the tool.
func (t tool) allows(who access.Principal) bool { return slices.ContainsFunc(t.needs, who.Can) }

// effect is what a tool does to what there is, for the annotations.
type effect int

const (
	reads  effect = iota // nothing but the event of the call
	writes               // it adds to the trail; with an id of the caller's, once
	asks                 // it adds to the trail, and a person is asked
)

// annotations returns a tool's hints. No tool here changes or removes anything.
func (e effect) annotations(title string) *mcp.ToolAnnotations {
	return &mcp.ToolAnnotations{Title: title, ReadOnlyHint: e == reads, IdempotentHint: e == reads,
		DestructiveHint: new(false), OpenWorldHint: new(e == asks)}
}

// conversation is the argument that every tool has.
type conversation struct {
	Conversation string `json:"conversation_id,omitempty" max:"1000" jsonschema:"of which the call is part"`
}

func (c conversation) conversationID() string { return c.Conversation }

// newTool returns a tool whose arguments and results are the fields of structs. Their JSON schemas are made of these:
// the tag jsonschema describes a field, min and max bound a number, or a text or list by its length, and enum lists
// values. The call's event has what run notes as the call's summary, and no text of a document.
func newTool[In interface{ conversationID() string }, Out any](name, title, description string, does effect,
	run func(ctx context.Context, c *call, in In) (Out, error), needs ...access.Permission) tool {
	input, output := schemaOf[In](), schemaOf[Out]()
	names := map[string]bool{}
	for n := range input.Properties {
		names[n] = true
	}
	definition := &mcp.Tool{Name: name, Title: title, Description: description, InputSchema: input,
		OutputSchema: output, Annotations: does.annotations(title)}
	handle := func(ctx context.Context, r *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		c, _ := ctx.Value(callKey{}).(*call)
		in := new(In)
		if err := readArguments(r.Params.Arguments, input, names, in); err != nil {
			return c.failed(err.Error()), nil
		}
		c.inConversation((*in).conversationID())
		out, err := run(ctx, c, *in)
		if err != nil {
			if unrecorded := (*unrecordedError)(nil); errors.As(err, &unrecorded) {
				return nil, err
			}
			return c.failed(c.s.explain(ctx, err)), nil
		}
		return c.succeeded(out)
	}
	return tool{definition: definition, needs: needs, handle: handle}
}

// unrecordedError is an error after which nothing may be said of a result.
type unrecordedError struct{ error }

// argumentError says which argument of a tool is wrong, and why.
type argumentError struct{ field, reason string }

// Error implements error.
func (e *argumentError) Error() string { return e.field + ": " + e.reason }

// argument returns an argumentError.
func argument(field, reason string, args ...any) error {
	return &argumentError{field, fmt.Sprintf(reason, args...)}
}

// readArguments reads a tool's arguments, and refuses what its schema does not have.
func readArguments(raw []byte, schema *jsonschema.Schema, names map[string]bool, to any) error {
	if len(raw) == 0 || string(raw) == "null" {
		raw = []byte("{}")
	}
	if raw[0] != '{' {
		return argument("arguments", "they must be an object")
	}
	if at, what := strictjson.CheckText(raw); what != "" {
		return argument("arguments"+at, "%s", what)
	}
	if name, known := strictjson.CheckNames(raw, names); !known {
		return argument(fmt.Sprintf("%.80s", name), "there is no such argument: there are %s",
			strings.Join(schema.PropertyOrder, ", "))
	}
	if err := strictjson.Decode(raw, to); err != nil {
		var field *strictjson.FieldError
		if errors.As(err, &field) {
			return argument(field.Field, "%s", field.Reason)
		}
		return argument("arguments", "%s", err)
	}
	return checkBounds(raw, schema, to)
}

// givenID returns the id that an argument names: a UUID, or one of our addresses of a kind, as documents.
func givenID(field, s string, kinds ...string) (uuid.UUID, error) {
	for _, kind := range kinds {
		if rest, is := strings.CutPrefix(s, scheme+kind+"/"); is {
			s = rest
			break
		}
	}
	id, err := uuid.Parse(s)
	if err != nil || id == uuid.Nil || len(s) != len(id.String()) {
		return id, argument(field, "it is not a UUID that is not zero")
	}
	return id, nil
}

// optionalID is givenID for an argument that may be missing.
func optionalID(field, s string) (uuid.UUID, error) {
	if s == "" {
		return uuid.Nil, nil
	}
	return givenID(field, s)
}

// succeeded returns a tool's result: as fields, and as text in which others' words are framed.
func (c *call) succeeded(out any) (*mcp.CallToolResult, error) {
	fields, err := strictjson.Marshal(out)
	if err != nil {
		return nil, fmt.Errorf("encode the result of %s: %w", c.name, err)
	}
	r := &mcp.CallToolResult{StructuredContent: jsonText(fields), Meta: mcp.Meta{}}
	text := fields
	if words, is := out.(untrusted); is {
		if text, err = strictjson.Marshal(words.framed(newBoundary())); err != nil {
			return nil, fmt.Errorf("encode the result of %s: %w", c.name, err)
		}
		r.Meta[metaUntrusted] = true
		if all := words.sources(); len(all) > 0 {
			r.Meta[metaSources] = all
		}
	}
	r.Content = []mcp.Content{&mcp.TextContent{Text: string(text)}}
	return r, nil
}

// jsonText is JSON that is encoded already.
type jsonText []byte

// MarshalJSON implements json.Marshaler.
func (t jsonText) MarshalJSON() ([]byte, error) { return t, nil }

// failed returns the result of a call that did not work. The model reads why.
func (c *call) failed(reason string) *mcp.CallToolResult {
	return &mcp.CallToolResult{IsError: true, Content: []mcp.Content{&mcp.TextContent{Text: reason}}}
}

// textOf returns the text of a result.
func textOf(r *mcp.CallToolResult) string {
	for _, one := range r.Content {
		if text, is := one.(*mcp.TextContent); is {
			return text.Text
		}
	}
	return ""
}

// Package clientgen writes the typed clients in clients/ from the service's OpenAPI description.
package clientgen

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// API is what clients can call.
type API struct {
	Types      []Type
	Operations []Operation
}

// Type is an object in requests or responses.
type Type struct {
	Name    string
	Doc     string
	Fields  []Field
	Request bool // clients send it
	Answer  bool // clients receive it
	Used    bool // an operation names it, and not only another type
}

// Field is a type's property, or a parameter of an operation.
type Field struct {
	JSON     string // its name on the wire
	Doc      string
	Required bool
	schema   *schema
}

// Operation is a request that clients can make.
type Operation struct {
	ID, Method, Path string
	Doc              string
	Deprecated       bool
	PathFields       []Field
	Query            []Field
	Headers          []Field // without Idempotency-Key and Content-Type
	Body             *Type   // fields of a JSON object or of a form
	Form             bool    // Body is multipart/form-data with one file
	Raw              bool    // the body is bytes
	TakesKey         bool    // accepts an Idempotency-Key
	OwnIDs           string  // "id" or "events": the Body's field with ids of the caller's, which exclude a key
	Answer           Answer
}

// Answer is what a client gets from an operation.
type Answer struct {
	Kind   AnswerKind
	Type   string // of AnswerJSON and AnswerStream
	Header string // of AnswerHeader
}

// AnswerKind is a kind of response body.
type AnswerKind string

// The kinds of responses.
const (
	AnswerNone   AnswerKind = "none"   // no body
	AnswerHeader AnswerKind = "header" // no body, and a number in a header
	AnswerJSON   AnswerKind = "json"   // an object
	AnswerText   AnswerKind = "text"   // text
	AnswerBytes  AnswerKind = "bytes"  // small binary content
	AnswerFile   AnswerKind = "file"   // content of any size
	AnswerStream AnswerKind = "stream" // server-sent events
)

// Read reads an OpenAPI description as JSON. It refuses what the generator can't express in a client.
func Read(raw []byte) (*API, error) {
	var d document
	if err := json.Unmarshal(raw, &d); err != nil {
		return nil, fmt.Errorf("read the API's description: %w", err)
	}
	a, sent, received := &API{}, map[string]bool{}, map[string]bool{}
	for _, path := range slices.Sorted(maps.Keys(d.Paths)) {
		for _, method := range slices.Sorted(maps.Keys(d.Paths[path])) {
			op, err := d.operation(strings.ToUpper(method), path, d.Paths[path][method], sent)
			if err != nil {
				return nil, fmt.Errorf("%s %s: %w", strings.ToUpper(method), path, err)
			}
			d.mark(op.Answer.Type, received)
			a.Operations = append(a.Operations, op)
		}
	}
	used := map[string]bool{}
	for _, op := range a.Operations {
		used[op.Answer.Type] = true
		if op.Body != nil {
			for _, f := range op.Body.Fields {
				for _, s := range []*schema{f.schema, f.schema.Items, f.schema.Values} {
					used[refOf(s)] = true
				}
			}
		}
	}
	slices.SortFunc(a.Operations, func(x, y Operation) int { return cmp.Compare(x.ID, y.ID) })
	d.mark("Problem", received)
	for _, name := range slices.Sorted(maps.Keys(d.Components.Schemas)) {
		s := d.Components.Schemas[name]
		if s.Type.name != "object" {
			return nil, fmt.Errorf("the schema %s is no object", name)
		}
		a.Types = append(a.Types, Type{Name: name, Doc: s.Description, Fields: fields(s), Request: sent[name],
			Answer: received[name], Used: used[name]})
	}
	return a, nil
}

// operation converts an operation, and notes the names of the types that it sends.
func (d *document) operation(method, path string, o operation, sent map[string]bool) (Operation, error) {
	op := Operation{ID: o.OperationID, Method: method, Path: path, Deprecated: o.Deprecated,
		Doc: strings.TrimSpace(o.Summary + ".\n\n" + o.Description)}
	for _, p := range o.Parameters {
		f := Field{JSON: p.Name, Doc: cmp.Or(p.Description, p.Schema.Description), Required: p.Required,
			schema: &p.Schema}
		switch {
		case p.Name == "Idempotency-Key":
			op.TakesKey = true
		case p.Name == "Content-Type":
		case p.In == "path":
			op.PathFields = append(op.PathFields, f)
		case p.In == "query":
			op.Query = append(op.Query, f)
		case p.In == "header":
			op.Headers = append(op.Headers, f)
		default:
			return op, fmt.Errorf("the parameter %s is in %s, which is not supported", p.Name, p.In)
		}
	}
	slices.SortStableFunc(op.PathFields, func(x, y Field) int {
		return strings.Index(path, "{"+x.JSON+"}") - strings.Index(path, "{"+y.JSON+"}")
	})
	if o.RequestBody != nil {
		for content, m := range o.RequestBody.Content {
			switch content {
			case "application/json":
				name := m.Schema.ref()
				s := d.Components.Schemas[name]
				if s == nil {
					return op, fmt.Errorf("the body has no schema of its own name")
				}
				op.Body = &Type{Name: name, Fields: fields(s), Request: true}
				d.mark(name, sent)
				op.OwnIDs = d.ownIDs(s)
			case "multipart/form-data":
				op.Body, op.Form = &Type{Fields: fields(&m.Schema), Request: true}, true
			case "application/octet-stream":
				op.Raw = true
			default:
				return op, fmt.Errorf("the body is %s, which is not supported", content)
			}
		}
	}
	var err error
	op.Answer, err = answer(o)
	return op, err
}

// refOf is ref of a schema that may be nil.
func refOf(s *schema) string {
	if s == nil {
		return ""
	}
	return s.ref()
}

// mark notes a type that is sent or received, and those that it has.
func (d *document) mark(name string, noted map[string]bool) {
	if name == "" || noted[name] {
		return
	}
	noted[name] = true
	for _, p := range d.Components.Schemas[name].Properties {
		for _, s := range []*schema{p, p.Items, p.Values} {
			d.mark(refOf(s), noted)
		}
	}
}

// ownIDs returns the field that may hold ids of the caller's events.
func (d *document) ownIDs(s *schema) string {
	if s.Properties["id"] != nil {
		return "id"
	}
	for name, p := range s.Properties {
		if p.Items != nil && p.Items.ref() != "" && d.Components.Schemas[p.Items.ref()].Properties["id"] != nil {
			return name
		}
	}
	return ""
}

// answer returns what an operation's successful responses have.
func answer(o operation) (Answer, error) {
	for _, status := range []string{"200", "201", "202", "204"} {
		r, ok := o.Responses[status]
		if !ok {
			continue
		}
		for content, m := range r.Content {
			switch {
			case content == "text/event-stream":
				if o.MessageSchema == "" {
					return Answer{}, fmt.Errorf("a stream has no x-konstruct-message-schema")
				}
				return Answer{Kind: AnswerStream, Type: o.MessageSchema}, nil
			case content == "application/json" && m.Schema.ref() != "":
				return Answer{Kind: AnswerJSON, Type: m.Schema.ref()}, nil
			case strings.HasPrefix(content, "text/plain"):
				return Answer{Kind: AnswerText}, nil
			case m.Schema.Format == "binary":
				return Answer{Kind: AnswerFile}, nil
			case content == "application/octet-stream":
				return Answer{Kind: AnswerBytes}, nil
			}
			return Answer{}, fmt.Errorf("the response is %s, which is not supported", content)
		}
		for name, h := range r.Headers {
			if h.Schema.Type.name == "integer" {
				return Answer{Kind: AnswerHeader, Header: name}, nil
			}
		}
		return Answer{Kind: AnswerNone}, nil
	}
	return Answer{}, fmt.Errorf("no response means success")
}

// fields returns an object's properties, the required ones first.
func fields(s *schema) []Field {
	var all []Field
	for _, name := range slices.Sorted(maps.Keys(s.Properties)) {
		p := s.Properties[name]
		all = append(all, Field{JSON: name, Doc: p.Description, Required: slices.Contains(s.Required, name), schema: p})
	}
	slices.SortStableFunc(all, func(x, y Field) int {
		switch {
		case x.Required == y.Required:
			return 0
		case x.Required:
			return -1
		}
		return 1
	})
	return all
}

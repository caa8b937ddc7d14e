package server

import (
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"slices"
	"strings"
)

// Limits on a form of OpenAI's API beside its file.
const (
	maxFormParts = 200
	maxFormField = 1 << 10 // bytes
)

// openAIForm reads a form whose file is streamed: nothing of it is kept but its fields, which may come before the file
// and behind it.
type openAIForm struct {
	parts  *multipart.Reader
	file   string          // the name of the file's field
	fields map[string]bool // the others, and whether each may be repeated
	values map[string][]string
	read   int
	seen   bool // the file
}

// newOpenAIForm begins to read a request's form.
func newOpenAIForm(r *http.Request, file string, fields map[string]bool) (*openAIForm, error) {
	parts, err := r.MultipartReader()
	if err != nil {
		return nil, problem(
			http.StatusBadRequest,
			"header.Content-Type: it must be multipart/form-data with a boundary",
		)
	}
	return &openAIForm{parts: parts, file: file, fields: fields, values: map[string][]string{}}, nil
}

// next reads on until the file, and returns it; or nil at the form's end.
func (f *openAIForm) next() (*multipart.Part, error) {
	for {
		part, err := f.parts.NextPart()
		if errors.Is(err, io.EOF) {
			return nil, nil
		}
		if err != nil {
			return nil, formProblem(err)
		}
		if f.read++; f.read > maxFormParts {
			return nil, problem(http.StatusBadRequest, "body: the form has more than %d fields", maxFormParts)
		}
		name := part.FormName()
		if reason := unstorable(name + part.FileName()); reason != "" {
			return nil, openAIField("body", "the name of a field or file: "+reason)
		}
		if name == f.file {
			if f.seen {
				return nil, openAIField(name, "it is repeated")
			}
			f.seen = true
			return part, nil
		}
		repeated, known := f.fields[strings.TrimSuffix(name, "[]")]
		switch {
		case !known:
			return nil, openAIField(fmt.Sprintf("%.80s", name), "there is no such parameter")
		case len(f.values[name]) > 0 && !repeated:
			return nil, openAIField(name, "it is repeated")
		}
		raw, err := io.ReadAll(io.LimitReader(part, maxFormField+1))
		if err != nil {
			return nil, formProblem(err)
		}
		if len(raw) > maxFormField {
			return nil, openAIField(name, fmt.Sprintf("it has more than %d bytes", maxFormField))
		}
		if reason := unstorable(string(raw)); reason != "" {
			return nil, openAIField(name, reason)
		}
		name = strings.TrimSuffix(name, "[]")
		f.values[name] = append(f.values[name], string(raw))
	}
}

// finish reads what is behind the file.
func (f *openAIForm) finish() error {
	part, err := f.next()
	if err == nil && part != nil {
		err = openAIField(f.file, "it is repeated")
	}
	return err
}

// value is a field that is not repeated; empty where it is missing.
func (f *openAIForm) value(name string) string { return strings.Join(slices.Clone(f.values[name]), "") }

// formProblem explains why a form could not be read.
func formProblem(err error) error {
	var large *http.MaxBytesError
	if errors.As(err, &large) {
		return problem(http.StatusRequestEntityTooLarge, "body: it has more than %d bytes", large.Limit)
	}
	if own := (*Problem)(nil); errors.As(err, &own) {
		return own
	}
	return problem(http.StatusBadRequest, "body: the form can't be read: it is cut off, or is none")
}

// formReader gives errors of reading a form's file the form's explanation.
type formReader struct{ r io.Reader }

// Read implements io.Reader.
func (f formReader) Read(p []byte) (int, error) {
	n, err := f.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = formProblem(err)
	}
	return n, err
}

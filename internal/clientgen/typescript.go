package clientgen

import (
	"bytes"
	_ "embed" // the templates
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"text/template"
)

//go:embed templates/typescript_types.tmpl
var typescriptTypes string

//go:embed templates/typescript_operations.tmpl
var typescriptOperations string

// TypeScript returns the generated modules of the TypeScript package by their file names.
func TypeScript(a *API) (map[string][]byte, error) {
	functions := template.FuncMap{"name": typescriptName, "camel": camel, "comment": typescriptComment,
		"type": func(f Field, sent bool) string { return typescriptType(f.schema, sent) },
		"form": typescriptForm, "path": typescriptPath, "quote": strconv.Quote, "answer": typescriptAnswer,
		"parameters": func(op Operation) bool { return len(op.Query)+len(op.Headers) > 0 },
		"required":   func(op Operation) bool { return anyRequired(op.Query) || anyRequired(op.Headers) },
		"bodyNeeded": func(op Operation) bool { return anyRequired(op.Body.Fields) }}
	files := map[string][]byte{}
	for file, text := range map[string]string{"types.ts": typescriptTypes, "operations.ts": typescriptOperations} {
		t, err := template.New(file).Funcs(functions).Parse(text)
		if err != nil {
			return nil, fmt.Errorf("parse the template of %s: %w", file, err)
		}
		var b bytes.Buffer
		if err := t.Execute(&b, a); err != nil {
			return nil, fmt.Errorf("generate %s: %w", file, err)
		}
		files[file] = b.Bytes()
	}
	return files, nil
}

func anyRequired(fields []Field) bool {
	for _, f := range fields {
		if f.Required {
			return true
		}
	}
	return false
}

// plainName matches names that need no quotes in TypeScript.
var plainName = regexp.MustCompile(`^[A-Za-z_$][A-Za-z0-9_$]*$`)

// typescriptName returns a property's name: the one on the wire, in quotes where it needs some.
func typescriptName(wire string) string {
	if plainName.MatchString(wire) {
		return wire
	}
	return strconv.Quote(wire)
}

// typescriptForm returns the type of a form's field. A text that holds a JSON object is given as one.
func typescriptForm(f Field) string {
	if f.Doc == "A JSON object" {
		return "Record<string, unknown>"
	}
	return typescriptType(f.schema, true)
}

// typescriptType returns a schema's type. Values that are received are lenient: an enumeration may grow.
func typescriptType(s *schema, sent bool) string {
	t := ""
	switch {
	case s.ref() != "":
		t = s.ref()
	case s.Enum != nil && sent:
		var values []string
		for _, v := range s.Enum {
			values = append(values, strconv.Quote(v))
		}
		t = strings.Join(values, " | ")
		if len(t) > 70 { // a line each
			t = "\n    | " + strings.Join(values, "\n    | ") + "\n  "
		}
	case s.Format == "binary":
		t = "FileContent"
	case s.Type.name == "string", s.Type.name == "boolean":
		t = s.Type.name
	case s.Type.name == "integer", s.Type.name == "number":
		t = "number"
	case s.Type.name == "array":
		t = "Array<" + typescriptType(s.Items, sent) + ">"
	case s.Type.name == "object" && s.Values != nil:
		t = "Record<string, " + typescriptType(s.Values, sent) + ">"
	case s.Type.name == "object":
		t = "Record<string, unknown>"
	default:
		return "unknown"
	}
	if s.Type.nullable {
		t += " | null"
	}
	return t
}

// typescriptComment returns a comment for documentation, each line indented.
func typescriptComment(text, indent string) string {
	if text == "" {
		return ""
	}
	lines := wrap(strings.ReplaceAll(text, "*/", "* /"), 112-len(indent))
	if len(lines) == 1 {
		return indent + "/** " + lines[0] + " */\n"
	}
	var b strings.Builder
	b.WriteString(indent + "/**\n")
	for _, line := range lines {
		b.WriteString(strings.TrimRight(indent+" * "+line, " ") + "\n")
	}
	b.WriteString(indent + " */\n")
	return b.String()
}

// typescriptPath returns the expression of an operation's path.
func typescriptPath(op Operation) string {
	if len(op.PathFields) == 0 {
		return strconv.Quote(op.Path)
	}
	path := op.Path
	for _, f := range op.PathFields {
		path = strings.ReplaceAll(path, "{"+f.JSON+"}", "${segment("+camel(f.JSON)+")}")
	}
	return "`" + path + "`"
}

// typescriptAnswer returns the type that an operation's method returns.
func typescriptAnswer(op Operation) string {
	switch op.Answer.Kind {
	case AnswerJSON:
		return "Promise<types." + op.Answer.Type + ">"
	case AnswerText:
		return "Promise<string>"
	case AnswerBytes:
		return "Promise<Uint8Array>"
	case AnswerFile:
		return "AsyncGenerator<Uint8Array, void>"
	case AnswerStream:
		return "AsyncGenerator<types." + op.Answer.Type + ", void>"
	case AnswerHeader:
		return "Promise<number>"
	}
	return "Promise<void>"
}

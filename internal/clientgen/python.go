package clientgen

import (
	"bytes"
	_ "embed" // the templates
	"fmt"
	"slices"
	"strconv"
	"strings"
	"text/template"
)

//go:embed templates/python_types.tmpl
var pythonTypes string

//go:embed templates/python_operations.tmpl
var pythonOperations string

// pythonWords are Python's keywords that are names in the API, or may become one.
var pythonWords = []string{"and", "as", "assert", "async", "await", "break", "class", "continue", "def", "del", "elif",
	"else", "except", "finally", "for", "from", "global", "if", "import", "in", "is", "lambda", "nonlocal", "not", "or",
	"pass", "raise", "return", "try", "while", "with", "yield", "self"}

// Python returns the generated modules of the Python package by their file names.
func Python(a *API) (map[string][]byte, error) {
	files := map[string][]byte{}
	functions := template.FuncMap{"name": pythonName, "snake": snake, "received": pythonReceived, "sent": pythonSent,
		"decode": pythonDecode, "comment": pythonComment, "docstring": pythonDocstring, "path": pythonPath,
		"arguments": pythonArguments, "quote": strconv.Quote, "answer": pythonAnswer,
		"text": func(doc string) string {
			return strings.Join(wrap(docstringText.Replace(doc), 110), "\n    ")
		},
		"called": func(op Operation, async bool) map[string]any {
			return map[string]any{"Op": op, "Async": async}
		}}
	for _, m := range []struct {
		file, text string
		async      bool
	}{{"types.py", pythonTypes, false}, {"_operations.py", pythonOperations, false},
		{"_async_operations.py", pythonOperations, true}} {
		t, err := template.New(m.file).Funcs(functions).Parse(m.text)
		if err != nil {
			return nil, fmt.Errorf("parse the template of %s: %w", m.file, err)
		}
		var b bytes.Buffer
		if err := t.Execute(&b, map[string]any{"API": a, "Async": m.async}); err != nil {
			return nil, fmt.Errorf("generate %s: %w", m.file, err)
		}
		files[m.file] = b.Bytes()
	}
	for _, t := range a.Types {
		if err := distinct(t.Name, t.Fields); err != nil {
			return nil, err
		}
	}
	return files, nil
}

// distinct refuses two fields that would have one name in Python.
func distinct(where string, fields []Field) error {
	seen := map[string]string{}
	for _, f := range fields {
		name := pythonName(f.JSON)
		if other, ok := seen[name]; ok {
			return fmt.Errorf("%s: %s and %s have the same name in Python", where, other, f.JSON)
		}
		seen[name] = f.JSON
	}
	return nil
}

// pythonName returns a field's name in Python. Names of the service's own metadata lose their prefix.
func pythonName(wire string) string {
	name := snake(strings.TrimPrefix(wire, "konstruct."))
	if slices.Contains(pythonWords, name) {
		return name + "_"
	}
	return name
}

// pythonReceived returns the type of a value that clients receive.
func pythonReceived(f Field) string { return pythonType(f.schema, false) }

// pythonSent returns the type of a value that clients send. A form's text that holds a JSON object is given as one.
func pythonSent(f Field, form bool) string {
	if form && f.Doc == "A JSON object" {
		return "Mapping[str, Any]"
	}
	return pythonType(f.schema, true)
}

// pythonType returns a schema's type. Values that are received are lenient: an enumeration may grow.
func pythonType(s *schema, sent bool) string {
	t := ""
	switch {
	case s.ref() != "":
		t = s.ref()
	case s.Enum != nil && sent:
		var values []string
		for _, v := range s.Enum {
			values = append(values, strconv.Quote(v))
		}
		t = "Literal[" + strings.Join(values, ", ") + "]"
		if len(t) > 70 { // a line each
			t = "Literal[\n            " + strings.Join(values, ",\n            ") + ",\n        ]"
		}
	case s.Format == "uuid" && sent:
		t = "str | UUID"
	case s.Format == "date-time" && sent:
		t = "str | datetime"
	case s.Format == "date-time":
		t = "datetime"
	case s.Format == "binary":
		t = "FileContent"
	case s.Type.name == "string":
		t = "str"
	case s.Type.name == "integer":
		t = "int"
	case s.Type.name == "number":
		t = "float"
	case s.Type.name == "boolean":
		t = "bool"
	case s.Type.name == "array" && sent:
		t = "Sequence[" + pythonType(s.Items, sent) + "]"
	case s.Type.name == "array":
		t = "list[" + pythonType(s.Items, sent) + "]"
	case s.Type.name == "object" && sent:
		t = "Mapping[str, " + pythonValues(s, sent) + "]"
	case s.Type.name == "object":
		t = "dict[str, " + pythonValues(s, sent) + "]"
	default:
		return "Any"
	}
	if s.Type.nullable {
		t += " | None"
	}
	return t
}

func pythonValues(s *schema, sent bool) string {
	if s.Values == nil {
		return "Any"
	}
	return pythonType(s.Values, sent)
}

// pythonDecode returns the expression that decodes a field of the object raw.
func pythonDecode(f Field) string {
	key := strconv.Quote(f.JSON)
	if pythonConverted("v", f.schema) == "v" {
		if f.Required {
			return "raw[" + key + "]"
		}
		return "raw.get(" + key + ")"
	}
	if f.Required && !f.schema.Type.nullable {
		return pythonConverted("raw["+key+"]", f.schema)
	}
	get := "raw.get(" + key + ")"
	if f.Required {
		get = "raw[" + key + "]"
	}
	return "None if (v := " + get + ") is None else " + pythonConverted("v", f.schema)
}

// pythonConverted returns the expression that converts a value of JSON, or the value itself where it is left as it is.
func pythonConverted(value string, s *schema) string {
	switch {
	case s.ref() != "":
		return s.ref() + ".from_json(" + value + ")"
	case s.Format == "date-time":
		return "decode_time(" + value + ")"
	case s.Items != nil && pythonConverted("x", s.Items) != "x":
		return "[" + pythonConverted("x", s.Items) + " for x in " + value + "]"
	case s.Values != nil && pythonConverted("x", s.Values) != "x":
		return "{k: " + pythonConverted("x", s.Values) + " for k, x in " + value + ".items()}"
	}
	return value
}

// pythonComment returns a field's comment, each line indented.
func pythonComment(text, indent string) string {
	if text == "" {
		return ""
	}
	return indent + "#: " + strings.Join(wrap(text, 110-len(indent)), "\n"+indent+"#: ") + "\n"
}

// docstringText makes any text a part of a docstring.
var docstringText = strings.NewReplacer(`\`, `\\`, `"""`, `\"\"\"`)

// pythonDocstring returns an operation's docstring.
func pythonDocstring(op Operation) string {
	const indent = "        "
	text := docstringText.Replace(op.Doc)
	var documented []string
	for _, f := range pythonArguments(op) {
		if f.Doc != "" {
			lines := wrap(pythonName(f.JSON)+": "+docstringText.Replace(f.Doc), 98)
			documented = append(documented, "    "+strings.Join(lines, "\n        "))
		}
	}
	lines := wrap(text, 102)
	if op.Deprecated {
		lines = append(lines, "", "Deprecated: it will be removed.")
	}
	if documented != nil {
		lines = append(lines, "", "Args:")
		lines = append(lines, strings.Split(strings.Join(documented, "\n"), "\n")...)
	}
	var b strings.Builder
	b.WriteString(indent + `"""` + lines[0])
	for _, line := range lines[1:] {
		b.WriteString(strings.TrimRight("\n"+indent+line, " "))
	}
	if len(lines) > 1 {
		b.WriteString("\n" + indent)
	}
	return b.String() + `"""`
}

// pythonArguments returns the arguments that are given by name.
func pythonArguments(op Operation) []Field {
	var all []Field
	if op.Body != nil {
		all = append(all, op.Body.Fields...)
	}
	return append(append(all, op.Query...), op.Headers...)
}

// pythonPath returns the expression of an operation's path.
func pythonPath(op Operation) string {
	if len(op.PathFields) == 0 {
		return strconv.Quote(op.Path)
	}
	path := op.Path
	for _, f := range op.PathFields {
		path = strings.ReplaceAll(path, "{"+f.JSON+"}", "{segment("+pythonName(f.JSON)+")}")
	}
	return `f"` + path + `"`
}

// pythonAnswer returns the type that an operation's method returns.
func pythonAnswer(op Operation, async bool) string {
	iterator := "Iterator"
	if async {
		iterator = "AsyncIterator"
	}
	switch op.Answer.Kind {
	case AnswerJSON:
		return op.Answer.Type
	case AnswerText:
		return "str"
	case AnswerBytes:
		return "bytes"
	case AnswerFile:
		return iterator + "[bytes]"
	case AnswerStream:
		return iterator + "[" + op.Answer.Type + "]"
	case AnswerHeader:
		return "int"
	}
	return "None"
}

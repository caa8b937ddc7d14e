package clientgen

import (
	"fmt"
	"strings"
	"testing"
)

// TestNamesFollowTheLanguages in both clients.
func TestNamesFollowTheLanguages(t *testing.T) {
	for _, c := range []struct{ wire, python, typescript string }{
		{"createEvent", "create_event", "createEvent"},
		{"createLLMCall", "create_llm_call", "createLlmCall"},
		{"createDocumentFromURL", "create_document_from_url", "createDocumentFromUrl"},
		{"Last-Event-ID", "last_event_id", "lastEventId"},
		{"If-None-Match", "if_none_match", "ifNoneMatch"},
		{"konstruct.content_sha256", "content_sha256", "konstructContentSha256"},
		{"try", "try_", "try"},
	} {
		if got := pythonName(c.wire); got != c.python {
			t.Errorf("%s is %s in Python, not %s", c.wire, got, c.python)
		}
		if got := camel(c.wire); got != c.typescript {
			t.Errorf("%s is %s in TypeScript, not %s", c.wire, got, c.typescript)
		}
	}
	if got := typescriptName("konstruct.also"); got != `"konstruct.also"` {
		t.Errorf("a property with a dot is %s", got)
	}
}

// description is one of an operation, with its parts.
func description(body, response, schemas string) string {
	return fmt.Sprintf(`{"paths":{"/v1/things":{"post":{"operationId":"createThing","summary":"Create a thing",
		"requestBody":{"content":{%s}},"responses":{"201":{"content":{%s}}}}}},"components":{"schemas":{
		"Problem":{"type":"object"},"Thing":{"type":"object","properties":{"name":{"type":"string"}}}%s}}}`,
		body, response, schemas)
}

const thing = `"application/json":{"schema":{"$ref":"#/components/schemas/Thing"}}`

// TestWhatTheGeneratorCannotExpressIsRefused, so that no client misses a part of the API silently.
func TestWhatTheGeneratorCannotExpressIsRefused(t *testing.T) {
	if _, err := Read([]byte(description(thing, thing, ""))); err != nil {
		t.Fatalf("the description that the others change: %v", err)
	}
	for want, raw := range map[string]string{
		"allOf, anyOf or oneOf": description(thing, thing,
			`,"Other":{"type":"object","properties":{"x":{"anyOf":[]}}}`),
		"only one beside null": description(thing, thing,
			`,"Other":{"type":"object","properties":{"x":{"type":["string","integer"]}}}`),
		"is no object":          description(thing, thing, `,"Other":{"type":"string"}`),
		"the body is image/png": description(`"image/png":{"schema":{}}`, thing, ""),
		"no schema of its own":  description(`"application/json":{"schema":{"type":"object"}}`, thing, ""),
		"the response is image": description(thing, `"image/png":{"schema":{}}`, ""),
		"message-schema":        description(thing, `"text/event-stream":{"schema":{"type":"string"}}`, ""),
		"no response means":     strings.Replace(description(thing, thing, ""), `"201"`, `"default"`, 1),
		"is in cookie": strings.Replace(description(thing, thing, ""), `"summary"`,
			`"parameters":[{"name":"x","in":"cookie","schema":{"type":"string"}}],"summary"`, 1),
	} {
		if _, err := Read([]byte(raw)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want an error with %q", err, want)
		}
	}
	api, err := Read([]byte(description(thing, thing,
		`,"Other":{"type":"object","properties":{"konstruct.x":{"type":"string"},"x":{"type":"string"}}}`)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Python(api); err == nil || !strings.Contains(err.Error(), "same name") {
		t.Errorf("two fields of one name: %v", err)
	}
}

// TestACommentCannotEndItself: descriptions are text, whatever they hold.
func TestACommentCannotEndItself(t *testing.T) {
	if got := typescriptComment("a */ b", ""); strings.Count(got, "*/") != 1 {
		t.Error(got)
	}
	if got := pythonDocstring(Operation{Doc: `a """ b \`}); strings.Count(got, `"""`) != 2 ||
		strings.HasSuffix(got, `\"""`) && !strings.HasSuffix(got, `\\"""`) {
		t.Error(got)
	}
}

// TestTheOrderOfADescriptionDoesNotMatter: what is generated is the same each time.
func TestTheOrderOfADescriptionDoesNotMatter(t *testing.T) {
	raw := []byte(description(thing, thing, `,"A":{"type":"object"},"B":{"type":"object"}`))
	generate := func() string {
		api, err := Read(raw)
		if err != nil {
			t.Fatal(err)
		}
		python, err := Python(api)
		if err != nil {
			t.Fatal(err)
		}
		typescript, err := TypeScript(api)
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf("%s %s", python, typescript)
	}
	first := generate()
	for range 20 {
		if generate() != first {
			t.Fatal("two runs differ")
		}
	}
	if !strings.Contains(first, "def create_thing(") || !strings.Contains(first, "createThing(") {
		t.Error(first)
	}
}

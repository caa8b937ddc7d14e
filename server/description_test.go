package server_test

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"
)

// TestTheDescriptionIsWhatGeneratorsTake holds openapi.json to what generators of clients warn of: names, parameters,
// nullable lists, and schemas without an example.
func TestTheDescriptionIsWhatGeneratorsTake(t *testing.T) {
	raw, err := serve(t).s.OpenAPI()
	if err != nil {
		t.Fatal(err)
	}
	var api struct {
		Info    map[string]any
		Servers []any
		Tags    []struct{ Name string }
		Paths   map[string]map[string]struct {
			OperationID, Summary, Description string
			Tags                              []string
			Parameters                        []struct {
				Name, In string
				Required bool
			}
		}
		Components struct{ Schemas map[string]map[string]any }
	}
	if err := json.Unmarshal(raw, &api); err != nil {
		t.Fatal(err)
	}
	if api.Info["contact"] == nil || len(api.Servers) == 0 {
		t.Error("it names no contact or no server")
	}
	tags := map[string]bool{}
	for _, tag := range api.Tags {
		tags[tag.Name] = true
	}
	seen := map[string]string{}
	verb :=
		regexp.MustCompile(
			`^(create|list|get|update|delete|stream|search|explain|acknowledge|resolve|approve|decline|` +
				`release|run|rotate|revoke|impersonate|check|tune|append|complete|cancel|retry)([A-Z][A-Za-z]*)?$`)
	for path, operations := range api.Paths {
		for method, op := range operations {
			at := method + " " + path
			if !verb.MatchString(op.OperationID) || seen[op.OperationID] != "" {
				t.Errorf("%s: operation %q (also %s)", at, op.OperationID, seen[op.OperationID])
			}
			seen[op.OperationID] = at
			if op.Summary == "" || op.Description == "" || len(op.Tags) != 1 || !tags[op.Tags[0]] {
				t.Errorf("%s: summary %q, description of %d bytes, tags %q", at, op.Summary,
					len(op.Description), op.Tags)
			}
			in := map[string]bool{}
			for _, p := range op.Parameters {
				if p.In == "path" && (!p.Required || !strings.Contains(path, "{"+p.Name+"}")) {
					t.Errorf("%s: parameter %s", at, p.Name)
				}
				in[p.Name] = p.In == "path"
			}
			for _, m := range regexp.MustCompile(`\{(\w+)\}`).FindAllStringSubmatch(path, -1) {
				if !in[m[1]] {
					t.Errorf("%s: {%s} is no parameter", at, m[1])
				}
			}
		}
	}
	if len(seen) < 70 {
		t.Errorf("only %d operations", len(seen))
	}
	if s := api.Components.Schemas["CreateExportRequest"]; fmt.Sprint(s["required"]) != "[format]" {
		t.Errorf("CreateExportRequest requires %v", s["required"])
	}
	for name, s := range api.Components.Schemas {
		if !regexp.MustCompile(`^[A-Z][A-Za-z0-9]*$`).MatchString(name) {
			t.Errorf("schema %s", name)
		}
		if examples, _ := s["examples"].([]any); len(examples) == 0 {
			t.Errorf("schema %s has no example", name)
		}
		properties, _ := s["properties"].(map[string]any)
		for property, v := range properties {
			if types, several := v.(map[string]any)["type"].([]any); several && len(types) > 1 && types[0] == "array" {
				t.Errorf("%s.%s is a list or null", name, property)
			}
		}
	}
}

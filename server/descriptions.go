package server

import (
	_ "embed"
	"fmt"
	"strings"

	"github.com/danielgtaylor/huma/v2"
)

// descriptionsText says of properties and parameters what does not fit into a struct's tag: paragraphs that begin with
// Schema.property or operation?parameter, separated by empty lines.
//
//go:embed descriptions.txt
var descriptionsText string

// addDescriptions puts the descriptions where they belong, and fails at one that belongs nowhere.
func addDescriptions(api *huma.OpenAPI) error {
	all := map[string]*string{}
	for name, s := range api.Components.Schemas.Map() {
		for property, p := range s.Properties {
			all[name+"."+property] = &p.Description
		}
	}
	for _, item := range api.Paths {
		for _, op := range []*huma.Operation{item.Get, item.Put, item.Post, item.Delete, item.Patch} {
			if op == nil {
				continue
			}
			for _, p := range op.Parameters {
				all[op.OperationID+"?"+p.Name] = &p.Description
			}
		}
	}
	for paragraph := range strings.SplitSeq(strings.TrimSpace(descriptionsText), "\n\n") {
		if strings.HasPrefix(paragraph, "#") {
			continue
		}
		name, text, _ := strings.Cut(paragraph, "\n")
		to := all[name]
		if to == nil {
			return fmt.Errorf("describe the API: there is no %s", name)
		}
		*to = strings.Join(strings.Fields(text), " ")
	}
	return nil
}

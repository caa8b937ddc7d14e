package server

import (
	_ "embed"
	"fmt"
	"strings"

	"github.com/danielgtaylor/huma/v2"
)

// descriptionsText has the descriptions of properties and parameters that are too long for a struct tag: paragraphs,
// separated by empty lines, that begin with Schema.property or operation?parameter.
//
//go:embed descriptions.txt
var descriptionsText string

// addDescriptions adds the descriptions to the API, and fails at one without its property or parameter.
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

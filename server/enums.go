package server

import (
	"slices"

	"github.com/danielgtaylor/huma/v2"

	"github.com/konstruct/konstruct/access"
	"github.com/konstruct/konstruct/ledger"
	"github.com/konstruct/konstruct/search"
)

// permission is what a key may be given.
type permission string

// Schema implements huma.SchemaProvider.
func (permission) Schema(huma.Registry) *huma.Schema { return enumSchema(access.Permissions) }

// tenantPermission is what a key of another tenant may be given by who impersonates it.
type tenantPermission string

// Schema implements huma.SchemaProvider.
func (tenantPermission) Schema(huma.Registry) *huma.Schema {
	return enumSchema(slices.DeleteFunc(slices.Clone(access.Permissions), func(p access.Permission) bool {
		return p == access.TenantsImpersonate
	}))
}

// fieldName is a field of an event that its leaf commits to.
type fieldName string

// Schema implements huma.SchemaProvider.
func (fieldName) Schema(huma.Registry) *huma.Schema { return enumSchema(fieldNames()) }

// erasableField is one that can be erased: what an event was about is kept, what it says is not.
type erasableField string

// Schema implements huma.SchemaProvider.
func (erasableField) Schema(huma.Registry) *huma.Schema {
	return enumSchema(slices.DeleteFunc(fieldNames(), func(name string) bool {
		return name == ledger.ActionType.String()
	}))
}

// searchMode is how to search.
type searchMode string

// Schema implements huma.SchemaProvider.
func (searchMode) Schema(huma.Registry) *huma.Schema {
	return enumSchema([]search.Mode{search.Hybrid, search.Semantic, search.Lexical})
}

func fieldNames() (names []string) {
	for f := ledger.AgentID; f <= ledger.Metadata; f++ {
		names = append(names, f.String())
	}
	return names
}

// enumSchema is a string that is one of some.
func enumSchema[T ~string](values []T) *huma.Schema {
	s := &huma.Schema{Type: huma.TypeString}
	for _, v := range values {
		s.Enum = append(s.Enum, string(v))
	}
	return s
}

// stringsOf converts between kinds of strings.
func stringsOf[To, From ~string](from []From) []To {
	to := make([]To, len(from))
	for i, v := range from {
		to[i] = To(v)
	}
	return to
}

package server

import (
	"slices"

	"github.com/danielgtaylor/huma/v2"

	"github.com/konstruct/konstruct/access"
	"github.com/konstruct/konstruct/ledger"
	"github.com/konstruct/konstruct/search"
	"github.com/konstruct/konstruct/webhook"
)

// permission is a permission that a key can have.
type permission string

// Schema implements huma.SchemaProvider.
func (permission) Schema(huma.Registry) *huma.Schema { return enumSchema(access.Permissions) }

// tenantPermission is a permission that a key of an impersonated tenant can have.
type tenantPermission string

// Schema implements huma.SchemaProvider.
func (tenantPermission) Schema(huma.Registry) *huma.Schema {
	return enumSchema(slices.DeleteFunc(slices.Clone(access.Permissions), func(p access.Permission) bool {
		return p == access.TenantsImpersonate
	}))
}

// webhookType is a type of messages that an endpoint can subscribe to.
type webhookType string

// Schema implements huma.SchemaProvider.
func (webhookType) Schema(huma.Registry) *huma.Schema {
	return enumSchema(append(slices.Clone(webhook.Types), webhook.AllTypes))
}

// fieldName is a field of an event that its leaf commits to.
type fieldName string

// Schema implements huma.SchemaProvider.
func (fieldName) Schema(huma.Registry) *huma.Schema { return enumSchema(fieldNames()) }

// erasableField is a field that can be erased: all but action_type.
type erasableField string

// Schema implements huma.SchemaProvider.
func (erasableField) Schema(huma.Registry) *huma.Schema {
	return enumSchema(slices.DeleteFunc(fieldNames(), func(name string) bool {
		return name == ledger.ActionType.String()
	}))
}

// searchMode is a search mode.
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

// enumSchema returns the schema of a string with given values.
func enumSchema[T ~string](values []T) *huma.Schema {
	s := &huma.Schema{Type: huma.TypeString}
	for _, v := range values {
		s.Enum = append(s.Enum, string(v))
	}
	return s
}

// stringsOf converts between string types.
func stringsOf[To, From ~string](from []From) []To {
	to := make([]To, len(from))
	for i, v := range from {
		to[i] = To(v)
	}
	return to
}

package search

import (
	"errors"
	"strings"
)

// ParseAttributeFilter reads a filter from the JSON of OpenAI's vector stores, whose keys are attributes of documents
// in the collections that are searched. The error is a *QueryError that names the place, such as
// filters.filters[1].value.
func ParseAttributeFilter(raw []byte) (*Filter, error) {
	f, err := decodeFilter(raw)
	if err == nil {
		f.ofAttributes(maxFilterDepth)
		err = f.Check()
	}
	var bad *QueryError
	if errors.As(err, &bad) {
		return nil, &QueryError{"filters" + strings.TrimPrefix(bad.Field, "filter"), bad.Reason}
	}
	return f, err
}

// ofAttributes makes keys attributes, as deep as a filter may be nested.
func (f *Filter) ofAttributes(depth int) {
	if f.Key != "" {
		f.Key = Key(attributes, f.Key)
	}
	for i := range f.Filters {
		if depth > 0 {
			f.Filters[i].ofAttributes(depth - 1)
		}
	}
}

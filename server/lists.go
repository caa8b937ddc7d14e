package server

import (
	"fmt"
	"reflect"
	"strings"
	"sync"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/validation"
)

// strictList makes huma match names case-sensitively, reject null for lists, and say what is wrong without the texts of
// Go's parsers. These settings are global to the process.
var strictList = sync.OnceFunc(func() {
	huma.ValidateStrictCasing = true
	huma.DefaultArrayNullable = false
	validation.MsgExpectedRFC4122UUID = "it is not a UUID"
	validation.MsgExpectedRFC3986URI = "it is not a URL"
	huma.ErrorFormatter = func(format string, args ...any) string {
		if !strings.Contains(format, "%") {
			return format
		}
		return fmt.Sprintf(format, args...)
	}
})

// requireLists encodes nil lists in a response as [], since null breaks typed clients.
func requireLists(_ huma.Context, _ string, v any) (any, error) {
	if v == nil {
		return v, nil
	}
	if fixed, changed := withLists(reflect.ValueOf(v)); changed {
		return fixed.Interface(), nil
	}
	return v, nil
}

// withLists returns a copy of v without nil lists, and whether it differs; v itself may be shared and stays unchanged.
func withLists(v reflect.Value) (reflect.Value, bool) {
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			return v, false
		}
		if inner, changed := withLists(v.Elem()); changed {
			p := reflect.New(v.Type().Elem())
			p.Elem().Set(inner)
			return p, true
		}
	case reflect.Struct:
		return structWithLists(v)
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			return v, false // bytes or raw JSON
		}
		var out reflect.Value
		for i := range v.Len() {
			if inner, changed := withLists(v.Index(i)); changed {
				if !out.IsValid() {
					out = reflect.MakeSlice(v.Type(), v.Len(), v.Len())
					reflect.Copy(out, v)
				}
				out.Index(i).Set(inner)
			}
		}
		if out.IsValid() {
			return out, true
		}
	}
	return v, false
}

func structWithLists(v reflect.Value) (reflect.Value, bool) {
	var out reflect.Value
	set := func(i int, to reflect.Value) {
		if !out.IsValid() {
			out = reflect.New(v.Type()).Elem()
			out.Set(v)
		}
		out.Field(i).Set(to)
	}
	for i := range v.NumField() {
		f := v.Type().Field(i)
		if !f.IsExported() {
			continue
		}
		tag := f.Tag.Get("json")
		field := v.Field(i)
		if field.Kind() == reflect.Slice && field.IsNil() && field.Type().Elem().Kind() != reflect.Uint8 &&
			tag != "-" && !strings.Contains(tag, ",omit") {
			set(i, reflect.MakeSlice(field.Type(), 0, 0))
			continue
		}
		if inner, changed := withLists(field); changed {
			set(i, inner)
		}
	}
	if out.IsValid() {
		return out, true
	}
	return v, false
}

package main

import (
	"errors"
	"reflect"

	"github.com/alecthomas/kong"
	"github.com/google/uuid"
)

// idMappers read the UUIDs of the command line.
func idMappers() kong.Option {
	return kong.OptionFunc(func(k *kong.Kong) error {
		return errors.Join(kong.TypeMapper(reflect.TypeFor[uuid.UUID](), kong.MapperFunc(readID)).Apply(k),
			kong.TypeMapper(reflect.TypeFor[*uuid.UUID](), kong.MapperFunc(readID)).Apply(k))
	})
}

// readID reads a UUID of the command line. The zero UUID means a missing one to the library, so nobody may give it.
func readID(c *kong.DecodeContext, target reflect.Value) error {
	var s string
	if err := c.Scan.PopValueInto("UUID", &s); err != nil {
		return err
	}
	id, err := uuid.Parse(s)
	switch {
	case err != nil:
		return errors.New("it is not a UUID")
	case id == uuid.Nil:
		return errors.New("it is the zero UUID, which names nothing")
	}
	if target.Kind() == reflect.Pointer {
		target.Set(reflect.ValueOf(&id))
	} else {
		target.Set(reflect.ValueOf(id))
	}
	return nil
}

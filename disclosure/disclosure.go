// Package disclosure says what of an error may be told to a tenant, in an answer, a job or an event. Errors of the
// network, the database, the system and other processes name addresses, paths and statements of the operator's
// machines, and tell by their kind what is there; they are for the log.
package disclosure

import (
	"reflect"
	"strings"
)

// Undisclosed is told where nothing of an error may be.
const Undisclosed = "something went wrong here: the service's log has it"

// Hide returns an error that says both, of which a tenant is told the first alone. Both are found by errors.Is and As.
func Hide(public, detail error) error { return &hidden{public, detail} }

type hidden struct{ public, detail error }

// Error implements error.
func (h *hidden) Error() string { return h.public.Error() + ": " + h.detail.Error() }

// Unwrap has both found.
func (h *hidden) Unwrap() []error { return []error{h.public, h.detail} }

// Reason is an error as a tenant may be told it; whole reports that it is all that the error says.
func Reason(err error) (text string, whole bool) {
	if h := find(err); h != nil {
		text, _ = Reason(h.public)
		return text, false
	}
	if isForeign(err) {
		return Undisclosed, false
	}
	return err.Error(), true
}

// find looks for what is hidden in an error.
func find(err error) *hidden {
	if h, is := err.(*hidden); is {
		return h
	}
	for _, inner := range indexBelow(err) {
		if h := find(inner); h != nil {
			return h
		}
	}
	return nil
}

// systems are the packages, and what lies below them, whose errors tell of the machine.
var systems = []string{"net", "os", "io/fs", "syscall", "internal/poll", "crypto/tls", "crypto/x509",
	"github.com/jackc", "github.com/minio", "golang.org/x/sys"}

// isForeign reports whether an error is, or holds, one of a system's.
func isForeign(err error) bool {
	if err == nil {
		return false
	}
	kind := reflect.TypeOf(err)
	if kind.Kind() == reflect.Pointer {
		kind = kind.Elem()
	}
	for _, of := range systems {
		if path := kind.PkgPath(); path == of || strings.HasPrefix(path, of+"/") {
			return true
		}
	}
	for _, inner := range indexBelow(err) {
		if isForeign(inner) {
			return true
		}
	}
	return false
}

// indexBelow are the errors that an error wraps.
func indexBelow(err error) []error {
	switch e := err.(type) {
	case interface{ Unwrap() error }:
		if inner := e.Unwrap(); inner != nil {
			return []error{inner}
		}
	case interface{ Unwrap() []error }:
		return e.Unwrap()
	}
	return nil
}

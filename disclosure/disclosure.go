// Package disclosure decides what part of an error a tenant may read, in a response, a job or an event. Errors of the
// network, the database, the operating system and other processes reveal addresses, paths and statements of the
// operator's machines; they belong in the log only.
package disclosure

import (
	"reflect"
	"strings"
)

// Undisclosed is the text for an error of which a tenant may read nothing.
const Undisclosed = "something went wrong here: the service's log has it"

// Hide returns an error with both errors' texts, of which a tenant may read only public's. errors.Is and errors.As find
// both.
func Hide(public, detail error) error { return &hidden{public, detail} }

type hidden struct{ public, detail error }

// Error implements error.
func (h *hidden) Error() string { return h.public.Error() + ": " + h.detail.Error() }

// Unwrap returns both errors.
func (h *hidden) Unwrap() []error { return []error{h.public, h.detail} }

// Reason returns the text of an error that a tenant may read; whole reports whether it is the error's whole text.
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

// find returns the hidden error in an error's tree, or nil.
func find(err error) *hidden {
	if h, is := err.(*hidden); is {
		return h
	}
	for _, inner := range unwrapped(err) {
		if h := find(inner); h != nil {
			return h
		}
	}
	return nil
}

// systems are the packages, with their subpackages, whose errors reveal something about the machine.
var systems = []string{"net", "os", "io/fs", "syscall", "internal/poll", "crypto/tls", "crypto/x509",
	"github.com/jackc", "github.com/minio", "golang.org/x/sys"}

// isForeign reports whether an error is, or wraps, an error of one of systems.
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
	for _, inner := range unwrapped(err) {
		if isForeign(inner) {
			return true
		}
	}
	return false
}

// unwrapped returns the errors that an error wraps directly.
func unwrapped(err error) []error {
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

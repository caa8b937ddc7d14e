package tenantdb

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// Labels are what somebody sees of a tenant's documents beside those without labels: documents that have one of them.
// The zero value is none. Row level security holds them against every row, by app.current_labels
// (migrations/00012_labels.sql).
type Labels struct {
	all   bool
	names string // as the setting has them: {"a","b"}, sorted
}

// AllLabelsName means every label in a list of labels; no label has this name.
const AllLabelsName = "*"

// MaxLabel is how many bytes a label has at most.
const MaxLabel = 100

// CheckLabel reports a label that can't be one.
func CheckLabel(l string) error {
	switch {
	case l == AllLabelsName:
		return errors.New(`"*" is none: it stands for every label where labels are granted`)
	case l == "" || len(l) > MaxLabel || strings.ToValidUTF8(l, "") != l || strings.ContainsRune(l, 0):
		return fmt.Errorf("%.120q is none: it is 1 to %d bytes of UTF-8", l, MaxLabel)
	}
	return nil
}

// GrantError says that somebody asks for more than they were granted: Field is what of their call, in its words.
type GrantError struct{ Field, Reason string }

// Error implements error.
func (e *GrantError) Error() string { return e.Field + ": " + e.Reason }

// AllLabels sees every document.
func AllLabels() Labels { return Labels{all: true} }

// LabelsOf are those that are named; Every among them is all.
func LabelsOf(names ...string) Labels {
	if slices.Contains(names, AllLabelsName) {
		return AllLabels()
	}
	names = slices.Compact(slices.Sorted(slices.Values(names)))
	if len(names) == 0 {
		return Labels{}
	}
	quoted := make([]string, len(names))
	for i, n := range names {
		quoted[i] = `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(n) + `"`
	}
	return Labels{names: "{" + strings.Join(quoted, ",") + "}"}
}

// Names lists them, in order; all of them are Every.
func (l Labels) Names() (names []string) {
	if l.all {
		return []string{AllLabelsName}
	}
	for i := 1; i < len(l.names); i++ { // each begins with a quote, and ends with one and a comma or brace
		var b strings.Builder
		for i++; l.names[i] != '"'; i++ {
			if l.names[i] == '\\' {
				i++
			}
			b.WriteByte(l.names[i])
		}
		names = append(names, b.String())
		i++
	}
	return names
}

// All reports whether they are every label.
func (l Labels) All() bool { return l.all }

// Has reports whether a label is among them.
func (l Labels) Has(name string) bool { return l.all || slices.Contains(l.Names(), name) }

// Missing returns the first of some labels that is not among them.
func (l Labels) Missing(names []string) (name string, lacks bool) {
	if l.all {
		return "", false
	}
	has := l.Names()
	for _, n := range names {
		if !slices.Contains(has, n) {
			return n, true
		}
	}
	return "", false
}

// Intersect are the labels that both have.
func (l Labels) Intersect(m Labels) Labels {
	switch {
	case l.all:
		return m
	case m.all:
		return l
	}
	return LabelsOf(slices.DeleteFunc(m.Names(), func(n string) bool { return !l.Has(n) })...)
}

// String is the setting's value.
func (l Labels) String() string {
	if l.all {
		return AllLabelsName
	}
	return l.names
}

// set is the statement that has a transaction see by them. Written with both quotes and backslashes doubled, its text
// is one literal whatever standard_conforming_strings says.
func (l Labels) set() string {
	return "SET LOCAL app.current_labels = E'" + strings.NewReplacer(`\`, `\\`, `'`, `''`).Replace(l.String()) + "'"
}

type labelsKey struct{}

// WithLabels has what is done with the context see documents by these labels, as far as the context sees them already:
// who calls may narrow what they were granted, and never widen it.
func WithLabels(ctx context.Context, l Labels) context.Context {
	if has, granted := Granted(ctx); granted {
		l = has.Intersect(l)
	}
	return context.WithValue(ctx, labelsKey{}, l)
}

// Trusted has what is done with the context see every document, whatever it was granted: for a program's own
// housekeeping, which shows nothing of what it reads.
func Trusted(ctx context.Context) context.Context {
	return context.WithValue(ctx, labelsKey{}, AllLabels())
}

// Granted are the labels that a context was given, if it was given any.
func Granted(ctx context.Context) (l Labels, granted bool) {
	l, granted = ctx.Value(labelsKey{}).(Labels)
	return l, granted
}

// CanSee are the labels by which a context sees through this door: those that it was granted; where it was granted
// none, all through a door that trusts, and none else.
func (d *Door) CanSee(ctx context.Context) Labels {
	if l, granted := Granted(ctx); granted {
		return l
	}
	return Labels{all: !d.strict}
}

// Trusts reports whether a context may see what its caller says: nothing was granted to it, and the door does not ask
// for that.
func (d *Door) Trusts(ctx context.Context) bool {
	_, granted := Granted(ctx)
	return !granted && !d.strict
}

// GrantLabels has contexts that were granted nothing see documents without labels alone, where they see all otherwise:
// for a program that acts for several people. It is called before the door is used.
func (d *Door) GrantLabels() { d.strict = true }

// SetLabels has the open transaction go on by other labels, and returns the context that says so. The labels are not
// held against what the context was granted.
func SetLabels(ctx context.Context, tx pgx.Tx, l Labels) (context.Context, error) {
	if has, granted := Granted(ctx); granted && has == l {
		return ctx, nil
	}
	if _, err := tx.Exec(ctx, l.set()); err != nil {
		return ctx, fmt.Errorf("set the labels: %w", err)
	}
	return context.WithValue(ctx, labelsKey{}, l), nil
}

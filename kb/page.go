package kb

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/google/uuid"
)

// Page says which part of a list is returned: what comes after one item and before another, in the list's order.
type Page struct {
	After, Before *uuid.UUID
	Descending    bool
	Limit         int
}

// ErrNoCursor says that the item after or before which a page is to be is not in the list.
var ErrNoCursor = errors.New("what the page is to begin or end at is not in the list: it may have been deleted")

// Backwards reports whether the rows come in the opposite order: those nearest to Before are wanted.
func (p Page) Backwards() bool { return p.Before != nil && p.After == nil }

// SQL is the conditions and the order of a list that is ordered by the columns of a key, which the query of at returns
// for the item whose id is an argument. One row more than the limit is read, which says that there is more.
func (p Page) SQL(key []string, at func(id string) string, args []any) (string, []any) {
	sql, after, before, direction := "", ">", "<", " ASC"
	if p.Descending {
		after, before, direction = "<", ">", " DESC"
	}
	for _, cursor := range []struct {
		id *uuid.UUID
		is string
	}{{p.After, after}, {p.Before, before}} {
		if cursor.id != nil {
			args = append(args, *cursor.id)
			sql += fmt.Sprintf(
				" AND (%s) %s (%s)",
				strings.Join(key, ", "),
				cursor.is,
				at(fmt.Sprintf("$%d::uuid", len(args))),
			)
		}
	}
	if p.Backwards() {
		direction = map[string]string{" ASC": " DESC", " DESC": " ASC"}[direction]
	}
	args = append(args, p.Limit+1)
	return fmt.Sprintf("%s ORDER BY %s%s LIMIT $%d", sql, strings.Join(key, direction+", "), direction, len(args)), args
}

// CutPage is the page of the rows that Page.SQL has a query return, and whether there is more in its direction.
func CutPage[T any](p Page, rows []T) (page []T, more bool) {
	if more = len(rows) > p.Limit; more {
		rows = rows[:p.Limit]
	}
	if p.Backwards() {
		slices.Reverse(rows)
	}
	return rows, more
}

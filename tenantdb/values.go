package tenantdb

import (
	"strconv"
	"strings"
)

// maxStatement keeps a statement of 15 columns below PostgreSQL's 65,535 parameters with room to spare.
const maxStatement = 1024

// StatementRows is how many of n rows go into the next statement: the largest power of two that fits, so
// that few different statements are ever prepared.
func StatementRows(n int) int {
	size := maxStatement
	for size > n {
		size /= 2
	}
	return size
}

// Values writes "($1::uuid,$2::text),…" for rows of the given column types. It is a multi-row VALUES and
// not an unnest, which row level security refuses on Citus. A type "timestamptz=now()" stands for
// coalesce($n::timestamptz, now()).
func Values(b *strings.Builder, rows int, types ...string) {
	for r := range rows {
		for c, t := range types {
			switch {
			case c > 0:
				b.WriteByte(',')
			case r > 0:
				b.WriteString(",(")
			default:
				b.WriteByte('(')
			}
			t, or, otherwise := strings.Cut(t, "=")
			if otherwise {
				b.WriteString("coalesce(")
			}
			b.WriteByte('$')
			b.WriteString(strconv.Itoa(r*len(types) + c + 1))
			b.WriteString("::")
			b.WriteString(t)
			if otherwise {
				b.WriteString("," + or + ")")
			}
		}
		b.WriteByte(')')
	}
}

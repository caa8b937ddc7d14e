package tenantdb

import (
	"math/bits"
	"strconv"
	"strings"
)

// maxStatement keeps a statement of 15 columns below PostgreSQL's 65,535 parameters with room to spare.
const maxStatement = 1024

// StatementRows is how many of n rows go into the next statement: as many as fit, rounded down to three
// significant bits. So few different statements are ever prepared (36), and many rows make few statements:
// each fires its triggers once, and 32 rows in six statements took 1.3 times as long as in one.
func StatementRows(n int) int {
	n = min(n, maxStatement)
	if drop := bits.Len(uint(n)) - 3; drop > 0 {
		n = n >> drop << drop
	}
	return n
}

// Values writes "($1::uuid,$2::text),…" for rows of the given column types. It is a multi-row VALUES and
// not an unnest, which row level security refuses on Citus. A type "timestamptz=now()" becomes
// coalesce($n::timestamptz, now()).
func Values(b *strings.Builder, rows int, types ...string) {
	var digits [20]byte
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
			b.Write(strconv.AppendInt(digits[:0], int64(r*len(types)+c+1), 10))
			b.WriteString("::")
			b.WriteString(t)
			if otherwise {
				b.WriteString("," + or + ")")
			}
		}
		b.WriteByte(')')
	}
}

// Literal is a text as an SQL string, for statements that take no parameters, as DDL.
func Literal(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

package search

import (
	"strconv"
	"strings"
	"time"
)

// Few has a searcher compare so few passages one by one where conditions leave them, instead of as many as take a table
// too large for a test.
func (s *Searcher) Few(n int) *Searcher { s.counts = n; return s }

// ConditionsSQL are the conditions of a query in SQL over kb_documents d and kb_sources s, and their arguments.
func ConditionsSQL(q *Query) (sql string, args []any, err error) {
	all, err := q.conditions(func(v any) string {
		args = append(args, v)
		return "$" + strconv.Itoa(len(args))
	})
	return strings.Join(all, " AND "), args, err
}

// ParseTime reads a time as kb_time does.
func ParseTime(s string) (time.Time, bool) { return parseTime(s) }

// AnalysisSQL are the statements that read a question against what a tenant has: SQL by name.
func AnalysisSQL() map[string]string {
	return map[string]string{"question": questionSQL, "compounds": compoundsSQL, "splits": splitsSQL, "near": nearSQL,
		"surfaces": surfacesSQL}
}

package search

// Few has a searcher compare so few passages one by one where conditions leave them, instead of as many as take a table
// too large for a test.
func (s *Searcher) Few(n int) *Searcher { s.counts = n; return s }

// AnalysisSQL are the statements that read a question against what a tenant has: SQL by name.
func AnalysisSQL() map[string]string {
	return map[string]string{"question": questionSQL, "compounds": compoundsSQL, "splits": splitsSQL, "near": nearSQL,
		"surfaces": surfacesSQL}
}

package search

// mergeTwins gives equal passages one place, at which the best names the others. It returns the hits that are wanted,
// with how many rows they took, in whose order they stay, and whether more follow.
func mergeTwins(rows []Hit, halves [][]float32, wanted int, each bool) (hits []Hit, kept [][]float32, taken int,
	more bool) {
	places := map[string]int{}
	for i, h := range rows {
		if at, ok := places[h.SHA256]; ok && !each {
			hits[at].Also = append(hits[at].Also,
				Twin{h.ChunkID, h.DocumentID, h.Version, h.Filename, h.Title, h.Source})
			continue
		}
		if len(hits) == wanted {
			return hits, kept, i, true
		}
		places[h.SHA256] = len(hits)
		hits, kept = append(hits, h), append(kept, halves[i])
	}
	return hits, kept, len(rows), false
}

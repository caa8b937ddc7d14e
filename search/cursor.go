package search

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/google/uuid"
)

// cursor is where a search ended.
type cursor struct {
	score float64
	chunk uuid.UUID
	seen  int
	of    string // the query's fingerprint
}

func (c *cursor) String() string {
	return base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, "%x.%s.%d.%s", math.Float64bits(c.score),
		hex.EncodeToString(c.chunk[:]), c.seen, c.of))
}

// fingerprint identifies what decides the order of a query's hits, and which there are.
func (q *Query) fingerprint() string {
	h := sha256.New()
	fmt.Fprintf(h, "%q %q %t %t %q %t %t ", q.Mode, q.Text, q.Operators, q.Natural, q.Model, q.PerDocument,
		q.Duplicates)
	if q.Text == "" { // a model of another service makes of one text vectors that differ a little
		_ = binary.Write(h, binary.BigEndian, q.Vector)
	}
	_ = json.NewEncoder(h).Encode(q.Where)
	if len(q.Collections) > 0 {
		_ = json.NewEncoder(h).Encode(q.Collections)
	}
	if q.Filter != nil {
		_ = json.NewEncoder(h).Encode(q.Filter)
	}
	if q.Weights != nil {
		fmt.Fprintf(h, "%v", *q.Weights)
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}

// cursor reads a query's After; nil where it is empty.
func (q *Query) cursor() (*cursor, error) {
	if q.After == "" {
		return nil, nil
	}
	bad := &QueryError{"after", "it is not what a search returned as its next page"}
	raw, err := base64.RawURLEncoding.DecodeString(q.After)
	parts := strings.Split(string(raw), ".")
	if err != nil || len(q.After) > 200 || len(parts) != 4 {
		return nil, bad
	}
	bits, err := strconv.ParseUint(parts[0], 16, 64)
	c := &cursor{score: math.Float64frombits(bits), of: parts[3]}
	if err == nil {
		c.chunk, err = uuid.Parse(parts[1])
	}
	if err == nil {
		c.seen, err = strconv.Atoi(parts[2])
	}
	if err != nil || math.IsNaN(c.score) || c.seen < 1 || c.seen > maxDepth {
		return nil, bad
	}
	if c.of != q.fingerprint() {
		return nil, &QueryError{"after", "it is of another search: a next page has the same question, mode, model, " +
			"conditions and options"}
	}
	return c, nil
}

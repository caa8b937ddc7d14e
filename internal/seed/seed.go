// Package seed is the schema that ours grew from, as its own migration 003 leaves it: what the tests
// adopt and the benchmarks compare against.
package seed

import _ "embed"

// SQL lays the seed's schema into the first schema of the search path. The vector extension and role
// konstruct_app must be there.
//
//go:embed seed.sql
var SQL string

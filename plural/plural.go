// Package plural agrees words with a number, in what people read.
package plural

import "fmt"

// Of returns a number and the words after it: Of(1, "event", "events") is "1 event".
func Of[N ~int | ~int64](n N, one, many string) string {
	return fmt.Sprintf("%d %s", n, Word(n, one, many))
}

// Word returns the words that agree with a number.
func Word[N ~int | ~int64](n N, one, many string) string {
	if n == 1 {
		return one
	}
	return many
}

package toolrule

import "strings"

// Approves reports whether the words of a person's decision let a call pass: their first word is allow, allowed,
// approve, approved or yes, in any case. Everything else denies it.
func Approves(words string) bool {
	first := strings.ToLower(strings.TrimSpace(words))
	if end := strings.IndexFunc(first, func(r rune) bool { return r < 'a' || r > 'z' }); end >= 0 {
		first = first[:end]
	}
	switch first {
	case "allow", "allowed", "approve", "approved", "yes":
		return true
	}
	return false
}

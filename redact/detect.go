package redact

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// Detectors are hand-written scanners, linear in the text's length, because an event should cost microseconds. gitleaks
// 8.30, a well-maintained secret scanner, took 49 µs for a sentence without a secret and 570 µs with one, and would add
// 60 modules for everyone who imports this one.

// findEmails finds e-mail addresses such as ada@example.org, also Unicode ones, but none with quoted local parts.
func findEmails(text string, found func(start, end int)) {
	for from := 0; ; {
		at := strings.IndexByte(text[from:], '@')
		if at < 0 {
			return
		}
		at += from
		start := at
		for start > from {
			r, n := utf8.DecodeLastRuneInString(text[from:start])
			if !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune("._%+-'", r) {
				break
			}
			start -= n
		}
		for start < at && strings.IndexByte(".'", text[start]) >= 0 { // punctuation of the sentence
			start++
		}
		end := domainEnd(text, at+1)
		if start < at && end > 0 {
			found(start, end)
			from = end
			continue
		}
		from = at + 1
	}
}

// domainEnd returns the end of the domain that begins at from, or 0 if there is none with a dot. Its last label must
// have two letters or more.
func domainEnd(text string, from int) (end int) {
	label, letters, dots, i := from, 0, 0, from
	accept := func() {
		if dots > 0 && letters >= 2 && i > label && text[i-1] != '-' {
			end = i
		}
	}
	for i < len(text) {
		r, n := utf8.DecodeRuneInString(text[i:])
		switch {
		case unicode.IsLetter(r):
			letters++
		case unicode.IsDigit(r), r == '-' && i > label:
		case r == '.' && i > label && text[i-1] != '-':
			accept()
			dots++
			label, letters = i+1, 0
		default:
			accept()
			return end
		}
		i += n
	}
	accept()
	return end
}

// digitsOf returns the digits of a text.
func digitsOf(text string) string {
	return strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' {
			return r
		}
		return -1
	}, text)
}

// maxCard is the greatest length of a card number in digits (ISO/IEC 7812).
const maxCard = 19

// findCards finds payment card numbers: 13 to 19 digits, alone or in groups separated by one space or hyphen, that
// begin with an issuer's prefix and pass the Luhn check (ISO/IEC 7812-1, annex B). It skips a number's decimals, UUIDs
// and checksums.
func findCards(text string, found func(start, end int)) {
	for i := 0; i < len(text); {
		if text[i] < '0' || text[i] > '9' {
			i++
			continue
		}
		// i is where a group of digits begins.
		decimals := i > 1 && text[i-1] == '.' && text[i-2] >= '0' && text[i-2] <= '9'
		var digits [maxCard]byte
		n, end, j := 0, 0, i
		for {
			for j < len(text) && text[j] >= '0' && text[j] <= '9' && n < maxCard {
				digits[n] = text[j] - '0'
				n++
				j++
			}
			if j < len(text) && text[j] >= '0' && text[j] <= '9' {
				break // too long for a card number
			}
			goesOn := j+1 < len(text) && text[j] == '-' && letterOrDigit(text[j+1])
			if !decimals && !goesOn && isCard(digits[:n]) && !inHex(text, i, j) {
				end = j
			}
			gap := separator(text[j:])
			if n == maxCard || gap == 0 || j+gap >= len(text) || text[j+gap] < '0' || text[j+gap] > '9' {
				break
			}
			j += gap
		}
		if end > 0 {
			found(i, end)
			i = end
			continue
		}
		for i < len(text) && text[i] >= '0' && text[i] <= '9' {
			i++
		}
	}
}

// inHex reports whether a part of a text belongs to a word of 32 or more hexadecimal digits, such as a checksum.
func inHex(text string, start, end int) bool {
	hex := func(c byte) bool { return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F' }
	for start > 0 && hex(text[start-1]) {
		start--
	}
	for end < len(text) && hex(text[end]) {
		end++
	}
	return end-start >= 32
}

// separator returns the length in bytes of a separator between groups of a card number at the text's start; 0 for none.
func separator(text string) int {
	switch {
	case text == "":
		return 0
	case text[0] == ' ', text[0] == '-':
		return 1
	case strings.HasPrefix(text, "\u00a0"):
		return len("\u00a0")
	}
	return 0
}

// issuers are the ranges of card numbers' first digits, and the numbers' shortest and longest length in digits.
var issuers = []struct{ digits, first, last, short, long int }{
	{1, 4, 4, 13, 19},                            // Visa
	{2, 51, 55, 16, 16}, {4, 2221, 2720, 16, 16}, // Mastercard
	{2, 34, 34, 15, 15}, {2, 37, 37, 15, 15}, // American Express
	{3, 300, 305, 14, 19}, {2, 36, 36, 14, 19}, {2, 38, 39, 14, 19}, // Diners Club
	{4, 3528, 3589, 16, 19},                                     // JCB
	{2, 50, 50, 13, 19}, {2, 56, 58, 13, 19}, {1, 6, 6, 13, 19}, // Maestro, Discover, UnionPay, RuPay
	{4, 2200, 2204, 16, 19}, // Mir
	{2, 81, 82, 16, 19},     // UnionPay, RuPay
	{4, 9792, 9792, 16, 16}, // Troy
}

func isCard(digits []byte) bool {
	if len(digits) < 13 {
		return false
	}
	known := false
	for _, r := range issuers {
		first := 0
		for _, d := range digits[:r.digits] {
			first = 10*first + int(d)
		}
		if first >= r.first && first <= r.last && len(digits) >= r.short && len(digits) <= r.long {
			known = true
			break
		}
	}
	return known && luhn(digits)
}

// luhn is ISO/IEC 7812-1's check: every second digit from the right is doubled, and the sum must be a multiple of ten.
func luhn(digits []byte) bool {
	sum := 0
	for i, d := range digits {
		n := int(d)
		if (len(digits)-i)%2 == 0 {
			if n *= 2; n > 9 {
				n -= 9
			}
		}
		sum += n
	}
	return sum%10 == 0
}

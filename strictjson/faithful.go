package strictjson

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// CheckText is CheckStorable for readers who have 64-bit floats: every number must fit one too.
func CheckText(raw []byte) (at, what string) { return check(raw, true) }

// CheckStorable checks that PostgreSQL's jsonb stores what JSON says as it was sent: text is UTF-8 without unpaired
// surrogates and NUL, and numbers have no more digits than its numeric. It returns the path of the first value that
// can't be stored, and why; a decoder would replace half a surrogate pair by U+FFFD. It does not check that raw is
// JSON.
func CheckStorable(raw []byte) (at, what string) { return check(raw, false) }

func check(raw []byte, floats bool) (at, what string) {
	written := 0 // by how much the numbers grow
	for i := 0; i < len(raw); i++ {
		switch c := raw[i]; {
		case c == '"':
			end, wrong := scanString(raw, i)
			if wrong != "" {
				return pathAt(raw, i), wrong
			}
			i = end
		case c == '-' || c >= '0' && c <= '9':
			begin := i
			for i+1 < len(raw) && bytes.IndexByte([]byte("0123456789+-.eE"), raw[i+1]) >= 0 {
				i++
			}
			if i-begin < 4 { // too short to overflow
				continue
			}
			number := string(raw[begin : i+1])
			if f, err := strconv.ParseFloat(number, 64); floats && err != nil && f != 0 {
				return pathAt(raw, begin), fmt.Sprintf("the number %.40s is past what a 64-bit float holds", number)
			}
			if !isNumeric(number) {
				return pathAt(raw, begin), fmt.Sprintf("the number %.40s has more digits than PostgreSQL stores: "+
					"%d before the point, %d after it", number, maxWhole, maxFraction)
			}
			if whole, fraction := digits(number); whole+fraction > len(number) {
				if written += whole + fraction - len(number); written > maxWritten {
					return pathAt(raw, begin), fmt.Sprintf("up to the number %.40s, numbers with exponents have more "+
						"than %d digits as PostgreSQL writes them: send them as text", number, maxWritten)
				}
			}
		case c >= utf8.RuneSelf:
			return "", fmt.Sprintf("byte %d is not JSON", i)
		}
	}
	return "", ""
}

// The digits that PostgreSQL's numeric has at most, before and after the decimal point.
const (
	maxWhole    = 131072
	maxFraction = 16383
)

// maxWritten bounds the digits that a text's numbers have beyond those that were sent: 1e308 is stored with 309.
const maxWritten = 256 << 10

// split returns a JSON number's digits before and after the point, and its exponent.
func split(number string) (whole, fraction string, exp int) {
	mantissa, exponent, _ := strings.Cut(strings.ToLower(number), "e")
	if exponent != "" {
		exp, _ = strconv.Atoi(exponent) // at either end of int when it overflows
	}
	whole, fraction, _ = strings.Cut(strings.TrimPrefix(mantissa, "-"), ".")
	return whole, fraction, min(max(exp, -maxExponent), maxExponent)
}

// AppendWritten appends a JSON number without an exponent, as PostgreSQL writes it: 1e308 has 309 digits. The number
// must be one that CheckStorable takes.
func AppendWritten(to []byte, number string) []byte {
	whole, fraction, exp := split(number)
	if number[0] == '-' {
		to = append(to, '-')
	}
	digits, point := whole+fraction, len(whole)+exp
	if point < 1 {
		digits, point = strings.Repeat("0", 1-point)+digits, 1
	}
	if point > len(digits) {
		digits += strings.Repeat("0", point-len(digits))
	}
	for point > 1 && digits[0] == '0' {
		digits, point = digits[1:], point-1
	}
	to = append(to, digits[:point]...)
	if point < len(digits) {
		to = append(append(to, '.'), digits[point:]...)
	}
	return to
}

// digits returns how many digits a number that can be stored has before and after the point without an exponent.
func digits(number string) (before, after int) {
	whole, fraction, exp := split(number)
	return max(len(whole)+exp, 1), max(len(fraction)-exp, 0)
}

// isNumeric reports whether PostgreSQL's numeric holds a JSON number. It counts zeros after the point too.
func isNumeric(number string) bool {
	whole, fraction, exp := split(number)
	if len(fraction)-exp > maxFraction {
		return false
	}
	digits := strings.TrimLeft(whole+fraction, "0")
	if digits == "" {
		return exp < maxExponent
	}
	return len(whole)+exp-(len(whole+fraction)-len(digits)) <= maxWhole
}

// maxExponent is beyond every exponent that can be stored.
const maxExponent = 1 << 29

// scanString scans the string that begins at i. It returns the index of its end and what is wrong with it.
func scanString(raw []byte, i int) (end int, wrong string) {
	begin := i
	for i++; i < len(raw) && raw[i] != '"'; {
		switch {
		case raw[i] == '\\' && i+1 < len(raw) && raw[i+1] == 'u':
			first, ok := utf16Unit(raw, i)
			if ok && first == 0 {
				return i, fmt.Sprintf("byte %d: \\u0000 is NUL, which PostgreSQL's text does not hold", i-begin-1)
			}
			if !ok || first < 0xd800 || first > 0xdfff {
				i += 2
				continue
			}
			second, ok := utf16Unit(raw, i+6)
			if first > 0xdbff || !ok || second < 0xdc00 || second > 0xdfff {
				return i, fmt.Sprintf("byte %d: \\u%04x is half of a surrogate pair, not a character",
					i-begin-1, first)
			}
			i += 12
		case raw[i] == '\\':
			i += 2
		case raw[i] < utf8.RuneSelf:
			i++
		default:
			r, n := utf8.DecodeRune(raw[i:])
			if r == utf8.RuneError && n == 1 {
				return i, fmt.Sprintf("byte %d is not UTF-8", i-begin-1)
			}
			i += n
		}
	}
	return i, ""
}

// utf16Unit returns the UTF-16 code unit of the \u escape at i.
func utf16Unit(raw []byte, i int) (uint64, bool) {
	if i+6 > len(raw) || raw[i] != '\\' || raw[i+1] != 'u' {
		return 0, false
	}
	n, err := strconv.ParseUint(string(raw[i+2:i+6]), 16, 32)
	return n, err == nil
}

// pathAt returns the path of the value at an offset, such as body.events[3].input_summary.
func pathAt(raw []byte, offset int) string {
	type level struct {
		object bool
		name   string
		n      int
		value  bool // the name was read; its value follows
	}
	var open []level
	for i := 0; i < offset; i++ {
		top := len(open) - 1
		switch raw[i] {
		case '{', '[':
			open = append(open, level{object: raw[i] == '{'})
		case '}', ']':
			if top >= 0 {
				open = open[:top]
			}
		case ',':
			if top >= 0 {
				open[top].n++
				open[top].value = false
			}
		case ':':
			if top >= 0 {
				open[top].value = true
			}
		case '"':
			end, _ := scanString(raw, i)
			if top >= 0 && open[top].object && !open[top].value {
				open[top].name = string(raw[i+1 : min(end, len(raw))])
			}
			i = end
		}
	}
	var b bytes.Buffer
	for _, l := range open {
		switch {
		case !l.object:
			fmt.Fprintf(&b, "[%d]", l.n)
		case l.value:
			fmt.Fprintf(&b, ".%.80s", l.name)
		}
	}
	return b.String()
}

// CheckNames checks that an object's names are among the given ones, letter by letter: a decoder accepts names that
// differ in case. It returns the first that is not.
func CheckNames(raw []byte, names map[string]bool) (string, bool) {
	depth, value := 0, false
	for i := 0; i < len(raw); i++ {
		switch raw[i] {
		case '{', '[':
			depth++
		case '}', ']':
			depth--
		case ',':
			value = value && depth != 1
		case ':':
			value = value || depth == 1
		case '"':
			end, _ := scanString(raw, i)
			if depth == 1 && !value {
				name := string(raw[i+1 : min(end, len(raw))])
				if !names[name] {
					return name, false
				}
			}
			i = end
		}
	}
	return "", true
}

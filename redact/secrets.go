package redact

import "strings"

// secretKind is a kind of key or token.
type secretKind struct {
	prefix    string
	alphabet  string // allowed characters besides letters and digits
	minLength int    // least number of bytes after the prefix
}

// secretKinds are keys and tokens to which their makers gave a recognisable prefix, by the makers' documentation.
var secretKinds = []secretKind{
	{"AKIA", "", 16}, {"ASIA", "", 16}, {"ABIA", "", 16}, {"ACCA", "", 16}, // AWS access key ids
	{"AIza", "_-", 35}, {"ya29.", "_-.", 20}, {"GOCSPX-", "_-", 28}, // Google
	// GitHub
	{"ghp_", "", 36}, {"gho_", "", 36}, {"ghu_", "", 36}, {"ghs_", "_.-", 36}, {"ghr_", "", 36},
	{"github_pat_", "_", 50},
	// GitLab
	{"glpat-", "_-.", 20}, {"gldt-", "_-", 20}, {"glrt-", "_-.", 20}, {"glcbt-", "_-", 20}, {"glptt-", "_-", 20},
	// Slack
	{"xoxb-", "-", 10}, {"xoxp-", "-", 10}, {"xoxa-", "-", 10}, {"xoxr-", "-", 10}, {"xoxs-", "-", 10},
	{"xoxe-", "-", 10}, {"xoxe.", "-.", 10}, {"xapp-", "-", 10},
	// Stripe
	{"sk_live_", "", 16}, {"sk_test_", "", 16}, {"rk_live_", "", 16}, {"rk_test_", "", 16}, {"whsec_", "+/=", 16},
	// OpenAI, Anthropic, OpenRouter and others
	{"sk-", "_-", 20},
	// Groq, Hugging Face, Replicate, Perplexity, xAI
	{"gsk_", "", 40}, {"hf_", "", 30}, {"r8_", "", 36}, {"pplx-", "", 40}, {"xai-", "", 40},
	// registries
	{"npm_", "", 36}, {"pypi-AgE", "_-", 50}, {"dckr_pat_", "_-", 20}, {"rubygems_", "", 48}, {"crates.io:", "", 32},
	// SendGrid, Mailgun, DigitalOcean, Shopify, Linear
	{"SG.", "_-.", 40}, {"key-", "", 32}, {"dop_v1_", "", 64}, {"shpat_", "", 32}, {"shpss_", "", 32},
	{"lin_api_", "", 32},
	// Grafana, Vault, Databricks, Notion, Sentry
	{"glsa_", "_", 32}, {"hvs.", "_-", 24}, {"hvb.", "_-", 24}, {"dapi", "-", 32}, {"ntn_", "", 40},
	{"secret_", "", 40}, {"sntrys_", "_=+/", 32},
	{"AGE-SECRET-KEY-1", "", 50}, {"kst_", "_", 20}, // age, and our own
}

// newSecretFinder returns the detector of keys and tokens by prefix, JSON Web Tokens, and private keys in PEM. It
// visits each byte once; 60 separate searches cost ten times as much.
func newSecretFinder() func(text string, found func(start, end int)) {
	var byFirst [256][]secretKind
	for _, k := range secretKinds {
		byFirst[k.prefix[0]] = append(byFirst[k.prefix[0]], k)
	}
	return func(text string, found func(start, end int)) {
		for i := 0; i+shortestSecret <= len(text); i++ {
			kinds := byFirst[text[i]]
			if len(kinds) == 0 || i > 0 && wordByte(text[i-1]) {
				continue // within a word: "desk-…" has no "sk-…"
			}
			for _, k := range kinds {
				if end := k.end(text, i); end > 0 {
					found(i, end)
				}
			}
		}
		findJWTs(text, found)
		findPEM(text, found)
	}
}

// shortestSecret is the length in bytes of the shortest secret of secretKinds.
const shortestSecret = 15

// end returns the end of the secret of this kind that begins at i, or 0 if there is none.
func (k secretKind) end(text string, i int) int {
	if !strings.HasPrefix(text[i:], k.prefix) {
		return 0
	}
	from := i + len(k.prefix)
	end := from
	for end < len(text) && (letterOrDigit(text[end]) || strings.IndexByte(k.alphabet, text[end]) >= 0) {
		end++
	}
	for end > from && !letterOrDigit(text[end-1]) && text[end-1] != '=' { // a sentence's own punctuation
		end--
	}
	if end-from < k.minLength {
		return 0
	}
	return end
}

func letterOrDigit(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z'
}

func wordByte(c byte) bool { return letterOrDigit(c) || c == '_' }

// findFrom finds values that begin with a text. endOf returns the end of the value at start, or 0 if there is none.
func findFrom(text, begin string, endOf func(start int) int, found func(start, end int)) {
	for from := 0; ; {
		i := strings.Index(text[from:], begin)
		if i < 0 {
			return
		}
		start := from + i
		from = start + len(begin)
		if end := endOf(start); end > 0 {
			found(start, end)
			from = end
		}
	}
}

// findJWTs finds JSON Web Tokens (RFC 7519): three parts in base64url, of which the first two begin with {" encoded.
func findJWTs(text string, found func(start, end int)) {
	const begin = "eyJ"
	part := func(at int) int {
		for at < len(text) && (wordByte(text[at]) || text[at] == '-') {
			at++
		}
		return at
	}
	findFrom(text, begin, func(start int) int {
		if start > 0 && wordByte(text[start-1]) {
			return 0
		}
		first := part(start)
		if first >= len(text) || !strings.HasPrefix(text[first:], "."+begin) {
			return 0
		}
		second := part(first + 1)
		if second >= len(text) || text[second] != '.' {
			return 0
		}
		return part(second + 1)
	}, found)
}

// findPEM finds private keys in PEM (RFC 7468), also if the end is missing.
func findPEM(text string, found func(start, end int)) {
	const begin, end, dashes, label = "-----BEGIN ", "-----END ", "-----", "PRIVATE KEY"
	findFrom(text, begin, func(start int) int {
		from := start + len(begin)
		line := text[from:min(len(text), from+64)]
		if n := strings.Index(line, dashes); n < 0 || !strings.Contains(line[:n], label) {
			return 0
		}
		n := strings.Index(text[from:], end)
		if n < 0 {
			return len(text)
		}
		stop := from + n + len(end)
		if n := strings.Index(text[stop:], dashes); n >= 0 && n < 64 {
			stop += n + len(dashes)
		}
		return stop
	}, found)
}

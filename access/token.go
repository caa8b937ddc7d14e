package access

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"hash/crc32"
	"math/big"
	"strings"

	"github.com/google/uuid"
)

// A key's text: kst_, 76 digits to the base 62 that are tenant, id and 24 random bytes, and 6 more that are the CRC-32
// of what precedes them, so that a scanner of source code knows a leaked key from anything else. As a regular
// expression: kst_[0-9A-Za-z]{82}.
const (
	keyPrefix  = "kst_"
	secretSize = 24
	bodySize   = 16 + 16 + secretSize
	bodyDigits = 76
	sumDigits  = 6
	tokenSize  = len(keyPrefix) + bodyDigits + sumDigits
)

// token is a key as its holder has it.
type token struct {
	tenant, id uuid.UUID
	secret     [secretSize]byte
}

func newToken(tenant, id uuid.UUID) (t token) {
	t.tenant, t.id = tenant, id
	_, _ = rand.Read(t.secret[:]) // which never fails
	return t
}

// String writes the key.
func (t token) String() string {
	var body [bodySize]byte
	copy(body[:], t.tenant[:])
	copy(body[16:], t.id[:])
	copy(body[32:], t.secret[:])
	s := keyPrefix + encodeDigits(body[:], bodyDigits)
	return s + checksum(s)
}

// ParseKey returns whose a key says it is, and its id, if it is one at all. It proves nothing.
func ParseKey(s string) (tenant, id uuid.UUID, ok bool) {
	if len(s) != tokenSize || !strings.HasPrefix(s, keyPrefix) ||
		checksum(s[:tokenSize-sumDigits]) != s[tokenSize-sumDigits:] {
		return tenant, id, false
	}
	n := new(big.Int)
	for _, c := range []byte(s[len(keyPrefix) : len(keyPrefix)+bodyDigits]) {
		at := strings.IndexByte(alphabet, c)
		if at < 0 {
			return tenant, id, false
		}
		n.Mul(n, base).Add(n, big.NewInt(int64(at)))
	}
	if n.BitLen() > 8*bodySize {
		return tenant, id, false
	}
	var body [bodySize]byte
	n.FillBytes(body[:])
	copy(tenant[:], body[:16])
	copy(id[:], body[16:32])
	return tenant, id, tenant != uuid.Nil
}

const alphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

var base = big.NewInt(int64(len(alphabet)))

// encodeDigits writes bytes as a number to the base 62, with leading zeros.
func encodeDigits(b []byte, width int) string {
	n, rest := new(big.Int).SetBytes(b), new(big.Int)
	out := make([]byte, width)
	for i := width - 1; i >= 0; i-- {
		n.QuoRem(n, base, rest)
		out[i] = alphabet[rest.Int64()]
	}
	return string(out)
}

func checksum(s string) string {
	sum := crc32.ChecksumIEEE([]byte(s))
	return encodeDigits([]byte{byte(sum >> 24), byte(sum >> 16), byte(sum >> 8), byte(sum)}, sumDigits)
}

// hashSecret is what is stored of a key.
func hashSecret(secret []byte, key string) []byte {
	m := hmac.New(sha256.New, secret)
	m.Write([]byte(key))
	return m.Sum(nil)
}

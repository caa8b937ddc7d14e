package provision

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
)

const (
	scramIterations = 4096 // PostgreSQL's default
	scramSalt       = 16
)

// DrawPassword returns a random password of 130 bits, of letters and digits.
func DrawPassword() string { return rand.Text() }

// Plain reports whether a password is printable ASCII, which SASLprep (RFC 4013) does not change.
func Plain(password string) bool {
	for _, r := range password {
		if r < ' ' || r > '~' {
			return false
		}
	}
	return password != ""
}

// Verifier returns what PostgreSQL stores for a password (RFC 5803). So the password is in no statement: the server's
// log and pg_stat_activity show statements.
func Verifier(password string) (string, error) {
	salt := make([]byte, scramSalt)
	if _, err := rand.Read(salt); err != nil {
		return "", fmt.Errorf("draw a salt: %w", err)
	}
	return verifier(password, salt)
}

func verifier(password string, salt []byte) (string, error) {
	salted, err := pbkdf2.Key(sha256.New, password, salt, scramIterations, sha256.Size)
	if err != nil {
		return "", fmt.Errorf("hash a password: %w", err)
	}
	sum := func(message string) []byte {
		h := hmac.New(sha256.New, salted)
		h.Write([]byte(message))
		return h.Sum(nil)
	}
	stored := sha256.Sum256(sum("Client Key"))
	b64 := base64.StdEncoding.EncodeToString
	return fmt.Sprintf("SCRAM-SHA-256$%d:%s$%s:%s", scramIterations, b64(salt), b64(stored[:]),
		b64(sum("Server Key"))), nil
}

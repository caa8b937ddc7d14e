package webhook

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"

	"github.com/google/uuid"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

// secretBytes is the size of a signing secret: Standard Webhooks asks for 24 to 64 random bytes.
const secretBytes = 32

// sealedVersion is the first byte of an encrypted secret: AES-256-GCM with a random nonce, then the tag.
const sealedVersion = 1

// secretPrefix begins a signing secret as people and libraries get it.
const secretPrefix = "whsec_"

// minSecret is the least size of what the encryption's key is derived from.
const minSecret = 32

// sealer encrypts signing secrets. Unlike API keys they can't be hashed, because each message is signed with them; so
// that the database alone, or its backup, signs nothing, their key is outside it.
type sealer struct{ aead cipher.AEAD }

// newSealer derives its key (HKDF-SHA256, RFC 5869) from the secret that API keys are hashed with.
func newSealer(secret []byte) (*sealer, error) {
	if len(secret) < minSecret {
		return nil, fmt.Errorf("webhook: the secret that signing secrets are encrypted with has %d bytes: it needs %d",
			len(secret), minSecret)
	}
	key, err := hkdf.Key(sha256.New, secret, nil, "konstruct webhook signing secrets v1", 32)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	return &sealer{aead}, err
}

// owner is what a secret is bound to: a row that is copied to another endpoint or tenant does not open.
func owner(tenant, endpoint uuid.UUID) []byte { return append(tenant[:], endpoint[:]...) }

// seal encrypts a secret of an endpoint.
func (s *sealer) seal(tenant, endpoint uuid.UUID, secret []byte) []byte {
	return s.aead.Seal([]byte{sealedVersion}, nil, secret, owner(tenant, endpoint))
}

// errSealed says that a secret can't be decrypted. The endpoint's messages wait.
var errSealed = errors.New("the signing secret can't be decrypted: the secret that keys are hashed with is another " +
	"one here (KONSTRUCT_KEY_SECRET_FILE); put it back, or rotate the webhook's secret")

func (s *sealer) open(tenant, endpoint uuid.UUID, sealed []byte) ([]byte, error) {
	if len(sealed) == 0 || sealed[0] != sealedVersion {
		return nil, errSealed
	}
	secret, err := s.aead.Open(nil, nil, sealed[1:], owner(tenant, endpoint))
	if err != nil {
		return nil, errSealed
	}
	return secret, nil
}

// newSecret draws a secret, and returns it as its owner gets it too.
func newSecret() (secret []byte, text string) {
	secret = make([]byte, secretBytes)
	_, _ = rand.Read(secret) // it never fails
	return secret, secretPrefix + base64.StdEncoding.EncodeToString(secret)
}

// signer signs with one secret.
func signer(secret []byte) (*standardwebhooks.Webhook, error) {
	return standardwebhooks.NewWebhookRaw(secret)
}

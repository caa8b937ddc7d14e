package ledger

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	_ "crypto/sha512" // tokens are signed with SHA-384 and SHA-512 too
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"time"
)

// The object identifiers of RFC 3161 and RFC 5652.
var (
	oidSHA256        = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}
	oidSHA384        = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 2}
	oidSHA512        = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 3}
	oidSignedData    = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 2}
	oidTSTInfo       = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 1, 4}
	oidContentType   = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 3}
	oidMessageDigest = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 4}
)

type messageImprint struct {
	Algorithm pkix.AlgorithmIdentifier
	Hash      []byte
}

// TimestampRequest returns RFC 3161's TimeStampReq, DER-encoded, for a text's SHA-256. It asks the authority to include
// its certificate.
func TimestampRequest(text string, nonce *big.Int) ([]byte, error) {
	h := sha256.Sum256([]byte(text))
	return asn1.Marshal(struct {
		Version int
		Imprint messageImprint
		Nonce   *big.Int
		CertReq bool
	}{1, messageImprint{pkix.AlgorithmIdentifier{Algorithm: oidSHA256, Parameters: asn1.NullRawValue}, h[:]},
		nonce, true})
}

// TimestampToken returns the token in RFC 3161's TimeStampResp.
func TimestampToken(response []byte) ([]byte, error) {
	var r struct {
		Status struct {
			Status int
			Text   []string       `asn1:"optional"`
			Fail   asn1.BitString `asn1:"optional"`
		}
		Token asn1.RawValue `asn1:"optional"`
	}
	if rest, err := asn1.Unmarshal(response, &r); err != nil || len(rest) > 0 {
		return nil, fmt.Errorf("not a time-stamp response: %w", errors.Join(err, trailing(rest)))
	}
	if r.Status.Status > 1 || len(r.Token.FullBytes) == 0 { // 0 granted, 1 granted with modifications
		return nil, fmt.Errorf("the time-stamping authority refused: status %d %v", r.Status.Status, r.Status.Text)
	}
	return r.Token.FullBytes, nil
}

func trailing(rest []byte) error {
	if len(rest) > 0 {
		return fmt.Errorf("%d bytes stand behind it", len(rest))
	}
	return nil
}

// Timestamp is the content of a verified token.
type Timestamp struct {
	At        time.Time
	Authority string // the subject of the authority's certificate
	Nonce     *big.Int
}

type signedData struct {
	Version          int
	DigestAlgorithms asn1.RawValue
	Encap            struct {
		Type    asn1.ObjectIdentifier
		Content asn1.RawValue `asn1:"explicit,tag:0,optional"`
	}
	Certificates asn1.RawValue `asn1:"optional,tag:0"`
	CRLs         asn1.RawValue `asn1:"optional,tag:1"`
	Signers      []signerInfo  `asn1:"set"`
}

type signerInfo struct {
	Version            int
	ID                 asn1.RawValue
	DigestAlgorithm    pkix.AlgorithmIdentifier
	SignedAttributes   asn1.RawValue `asn1:"optional,tag:0"`
	SignatureAlgorithm pkix.AlgorithmIdentifier
	Signature          []byte
	Unsigned           asn1.RawValue `asn1:"optional,tag:1"`
}

type tstInfo struct {
	Version   int
	Policy    asn1.ObjectIdentifier
	Imprint   messageImprint
	Serial    *big.Int
	At        time.Time        `asn1:"generalized"`
	Accuracy  asn1.RawValue    `asn1:"optional"`
	Ordering  bool             `asn1:"optional"`
	Nonce     *big.Int         `asn1:"optional"`
	Authority asn1.RawValue    `asn1:"optional,tag:0"`
	Extension []pkix.Extension `asn1:"optional,tag:1"`
}

// VerifyTimestamp verifies an RFC 3161 token over a text: a time-stamping certificate under one of the roots signed it.
func VerifyTimestamp(token []byte, text string, roots *x509.CertPool) (t Timestamp, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("time-stamp: %w", err)
		}
	}()
	var content struct {
		Type asn1.ObjectIdentifier
		Data asn1.RawValue `asn1:"explicit,tag:0"`
	}
	if rest, err := asn1.Unmarshal(token, &content); err != nil || len(rest) > 0 || !content.Type.Equal(oidSignedData) {
		return t, fmt.Errorf("not a signed token: %w", errors.Join(err, trailing(rest)))
	}
	var d signedData
	if _, err := asn1.Unmarshal(content.Data.Bytes, &d); err != nil {
		return t, fmt.Errorf("its signed data: %w", err)
	}
	var info []byte
	if _, err := asn1.Unmarshal(d.Encap.Content.Bytes, &info); err != nil || !d.Encap.Type.Equal(oidTSTInfo) {
		return t, errors.New("it is not a time-stamp token")
	}
	var tst tstInfo
	if _, err := asn1.Unmarshal(info, &tst); err != nil {
		return t, fmt.Errorf("its content: %w", err)
	}
	if h := sha256.Sum256([]byte(text)); !tst.Imprint.Algorithm.Algorithm.Equal(oidSHA256) ||
		!bytes.Equal(tst.Imprint.Hash, h[:]) {
		return t, errors.New("it is of another text")
	}
	certificates, err := x509.ParseCertificates(d.Certificates.Bytes)
	if err != nil || len(d.Signers) != 1 {
		return t, fmt.Errorf("%d signers, and certificates: %w", len(d.Signers), err)
	}
	signer, err := d.Signers[0].signedBy(certificates, info)
	if err != nil {
		return t, err
	}
	between := x509.NewCertPool()
	for _, c := range certificates {
		between.AddCert(c)
	}
	if _, err := signer.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, CurrentTime: tst.At,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageTimeStamping}}); err != nil {
		return t, fmt.Errorf("the authority %s: %w", signer.Subject, err)
	}
	return Timestamp{tst.At.UTC(), signer.Subject.String(), tst.Nonce}, nil
}

// signedBy returns the certificate whose key signed the attributes. The attributes must contain the content's digest.
func (s *signerInfo) signedBy(certificates []*x509.Certificate, content []byte) (*x509.Certificate, error) {
	hash, err := hashOf(s.DigestAlgorithm.Algorithm)
	if err != nil {
		return nil, err
	}
	if len(s.SignedAttributes.FullBytes) == 0 {
		return nil, errors.New("it has no signed attributes")
	}
	signed := append([]byte{}, s.SignedAttributes.FullBytes...)
	signed[0] = 0x31 // RFC 5652, 5.4: signed as a SET, and not with the tag it has here
	var attributes []struct {
		Type   asn1.ObjectIdentifier
		Values asn1.RawValue `asn1:"set"`
	}
	if _, err := asn1.UnmarshalWithParams(signed, &attributes, "set"); err != nil {
		return nil, fmt.Errorf("its attributes: %w", err)
	}
	h := hash.New()
	h.Write(content)
	digest, kind := false, false
	for _, a := range attributes {
		var value []byte
		var oid asn1.ObjectIdentifier
		switch {
		case a.Type.Equal(oidMessageDigest):
			_, err := asn1.Unmarshal(a.Values.Bytes, &value)
			digest = err == nil && bytes.Equal(value, h.Sum(nil))
		case a.Type.Equal(oidContentType):
			_, err := asn1.Unmarshal(a.Values.Bytes, &oid)
			kind = err == nil && oid.Equal(oidTSTInfo)
		}
	}
	if !digest || !kind {
		return nil, errors.New("its signed attributes do not match its content")
	}
	for _, c := range certificates {
		algorithm, ok := algorithmOf(c, hash)
		if ok && c.CheckSignature(algorithm, signed, s.Signature) == nil {
			return c, nil
		}
	}
	return nil, errors.New("none of its certificates signed it")
}

func hashOf(oid asn1.ObjectIdentifier) (crypto.Hash, error) {
	switch {
	case oid.Equal(oidSHA256):
		return crypto.SHA256, nil
	case oid.Equal(oidSHA384):
		return crypto.SHA384, nil
	case oid.Equal(oidSHA512):
		return crypto.SHA512, nil
	}
	return 0, fmt.Errorf("digest algorithm %s is not accepted", oid)
}

func algorithmOf(c *x509.Certificate, hash crypto.Hash) (x509.SignatureAlgorithm, bool) {
	var by map[crypto.Hash]x509.SignatureAlgorithm
	switch c.PublicKey.(type) {
	case *rsa.PublicKey:
		by = map[crypto.Hash]x509.SignatureAlgorithm{crypto.SHA256: x509.SHA256WithRSA,
			crypto.SHA384: x509.SHA384WithRSA, crypto.SHA512: x509.SHA512WithRSA}
	case *ecdsa.PublicKey:
		by = map[crypto.Hash]x509.SignatureAlgorithm{crypto.SHA256: x509.ECDSAWithSHA256,
			crypto.SHA384: x509.ECDSAWithSHA384, crypto.SHA512: x509.ECDSAWithSHA512}
	case ed25519.PublicKey:
		return x509.PureEd25519, true
	}
	a, ok := by[hash]
	return a, ok
}

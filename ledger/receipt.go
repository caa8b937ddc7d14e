package ledger

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Receipt is a notary's promise to the writer of an event that the event is sealed and will be in the tenant's log by
// IntegrateBy. It is signed as a note under the notary's own name:
//
//	konstruct/receipt/v1
//	tenant 11111111-1111-4111-8111-111111111111
//	event 018f4e5a-0000-7000-8000-000000000001
//	leaf CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=
//	recorded 2026-11-24T10:00:00.123456Z
//	integrate-by 2026-11-24T10:01:00.123456Z
type Receipt struct {
	TenantID, EventID       [16]byte
	Leaf                    Hash
	RecordedAt, IntegrateBy Micros
}

// IntegrateWithin is the time within which a sealed event must be in its log. Receipts promise it, and every check
// reports a sealed event that is later as an error, whatever the reason.
const IntegrateWithin = time.Minute

const (
	receiptDomain = "konstruct/receipt/v1"
	receiptTime   = "2006-01-02T15:04:05.000000Z"
)

// Text returns the receipt's text, which is what is signed.
func (r Receipt) Text() string {
	return fmt.Sprintf("%s\ntenant %s\nevent %s\nleaf %s\nrecorded %s\nintegrate-by %s\n", receiptDomain,
		FormatID(r.TenantID), FormatID(r.EventID),
		base64.StdEncoding.EncodeToString(r.Leaf[:]), r.RecordedAt.Time().Format(receiptTime),
		r.IntegrateBy.Time().Format(receiptTime))
}

// ErrNotReceipt is returned for a text that is not a valid receipt.
var ErrNotReceipt = errors.New("not a receipt")

// ReadReceipt verifies that the key signed a receipt, and returns the receipt.
func ReadReceipt(signed string, k Key) (Receipt, error) {
	text, err := OpenNote(signed, k)
	if err != nil {
		return Receipt{}, fmt.Errorf("the receipt: %w", err)
	}
	return parseReceipt(text)
}

func parseReceipt(text string) (r Receipt, err error) {
	lines := strings.Split(text, "\n")
	if len(lines) != 7 || lines[0] != receiptDomain {
		return r, ErrNotReceipt
	}
	values := make([]string, 5)
	for i, name := range []string{"tenant", "event", "leaf", "recorded", "integrate-by"} {
		value, ok := strings.CutPrefix(lines[i+1], name+" ")
		if !ok {
			return r, fmt.Errorf("%w: line %d does not say its %s", ErrNotReceipt, i+2, name)
		}
		values[i] = value
	}
	if r.TenantID, err = ParseID(values[0]); err == nil {
		r.EventID, err = ParseID(values[1])
	}
	if err != nil {
		return r, fmt.Errorf("%w: %w", ErrNotReceipt, err)
	}
	leaf, err := DecodeBase64(values[2])
	if err != nil || len(leaf) != len(r.Leaf) {
		return r, fmt.Errorf("%w: %.60q is no leaf hash", ErrNotReceipt, values[2])
	}
	r.Leaf = Hash(leaf)
	for i, to := range []*Micros{&r.RecordedAt, &r.IntegrateBy} {
		t, err := time.Parse(receiptTime, values[3+i])
		if err != nil {
			return r, fmt.Errorf("%w: %w", ErrNotReceipt, err)
		}
		*to = MicrosOf(t)
	}
	if r.Text() != text {
		return r, fmt.Errorf("%w: it is not written as it should be", ErrNotReceipt)
	}
	return r, nil
}

// FormatID returns a UUID's canonical text.
func FormatID(id [16]byte) string {
	return fmt.Sprintf("%x-%x-%x-%x-%x", id[:4], id[4:6], id[6:8], id[8:10], id[10:])
}

// ParseID parses a UUID's canonical text, as FormatID returns it, and nothing else: what is signed or compared has one
// form.
func ParseID(s string) (id [16]byte, err error) {
	raw, err := hex.DecodeString(strings.ReplaceAll(s, "-", ""))
	if err == nil && len(raw) == len(id) {
		id = [16]byte(raw)
	}
	if FormatID(id) != s {
		return [16]byte{}, fmt.Errorf("%.60q is no UUID in its canonical form", s)
	}
	return id, nil
}

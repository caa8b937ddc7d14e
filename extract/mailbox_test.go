package extract_test

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/konstruct/konstruct/extract"
)

// TestAMailboxCutShortIsAnError reads a mailbox whose disk or archive fails within the second message.
func TestAMailboxCutShortIsAnError(t *testing.T) {
	const first = "From a@b Mon Jan  1 00:00:00 2026\nSubject: one\n\nhi\n\n"
	broken := errors.New("the disk failed")
	r := io.MultiReader(strings.NewReader(first+"From a@b Mon Jan  1 00:00:00 2026\nSubj"), iotest.ErrReader(broken))
	n := 0
	err := extract.EachMessage(t.Context(), r, func(int, []byte, bool) error { n++; return nil })
	if !errors.Is(err, broken) || n != 1 {
		t.Errorf("%d messages, error %v: want the whole one and the error", n, err)
	}
}

package plural_test

import (
	"testing"

	"github.com/konstruct/konstruct/plural"
)

func TestOnlyOneIsSingular(t *testing.T) {
	for n, want := range map[int64]string{0: "0 leaves", 1: "1 leaf", 2: "2 leaves", -1: "-1 leaves", 21: "21 leaves"} {
		if got := plural.Of(n, "leaf", "leaves"); got != want {
			t.Errorf("%d: %q, want %q", n, got, want)
		}
	}
}

package testkit

import (
	"testing"

	"github.com/konstruct/konstruct/internal/llmfake"
)

// LLM starts an upstream that speaks the vendors' APIs, and ends with the test.
func LLM(t testing.TB) *llmfake.Upstream {
	t.Helper()
	u, stop, err := llmfake.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = stop() })
	return u
}

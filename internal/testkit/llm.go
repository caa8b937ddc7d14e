package testkit

import (
	"testing"

	"github.com/konstruct/konstruct/internal/llmfake"
)

// LLM starts an upstream that speaks the vendors' APIs, and ends with the test.
func LLM(t testing.TB) *llmfake.Upstream {
	t.Helper()
	u, stop := llmfake.Start()
	t.Cleanup(stop)
	return u
}

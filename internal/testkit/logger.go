package testkit

import (
	"log/slog"
	"testing"
)

// Logger writes a test's warnings and errors with its output.
func Logger(t testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
}

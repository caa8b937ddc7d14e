package kb_test

import (
	"bytes"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/konstruct/konstruct/embed"
	"github.com/konstruct/konstruct/fetch"
	"github.com/konstruct/konstruct/internal/testkit"
	"github.com/konstruct/konstruct/kb"
)

// heard is a log so far.
type heard struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (h *heard) Write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.b.Write(p)
}

func (h *heard) String() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.b.String()
}

// TestAJobsReasonTellsNothingOfWhatIsInside: not where a name leads, and not where the model is; the log has both.
func TestAJobsReasonTellsNothingOfWhatIsInside(t *testing.T) {
	d := testkit.Database(t)
	b := newBaseOn(t, d)
	var log heard
	b.in.Logger = slog.New(slog.NewTextHandler(&log, nil))
	b.in.Fetcher = fetch.New()
	t.Cleanup(b.in.Fetcher.Close)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	away := l.Addr().String()
	l.Close()
	b.in.Embedder = func(string) (embed.Embedder, error) {
		return &embed.Remote{BaseURL: "http://" + away + "/v1", Model: "m", Attempts: 1}, nil
	}
	b.enqueue(t, tenantA, kb.Upload{Source: "http://localhost/secret", Filename: "page"}, text("b.md", pumps))
	b.work(t, d.URL("konstruct_worker"))
	var got map[string]string
	testkit.Until(t, "tried", func() bool {
		got = b.jobs(t, tenantA)
		return strings.HasPrefix(got["page"], "failed") && strings.Contains(got["b.md"], "the embedding model")
	})
	if got["page"] != "failed  "+fetch.ErrPrivate.Error() {
		t.Errorf("a name inside: %q", got["page"])
	}
	if !strings.HasSuffix(got["b.md"], "the embedding model can't be asked now") {
		t.Errorf("the model is unavailable: %q", got["b.md"])
	}
	testkit.Until(t, "logged", func() bool {
		return strings.Contains(log.String(), "127.0.0.1") && strings.Contains(log.String(), away)
	})
}

package konstruct_test

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/konstruct/konstruct"
	"github.com/konstruct/konstruct/internal/devpg"
	"github.com/konstruct/konstruct/internal/testkit"
)

// BenchmarkTheSameQuestionAgain asks what was asked before: its vector is kept. ours-µs/op is this process's own time
// on its processors, the database's left out.
func BenchmarkTheSameQuestionAgain(b *testing.B) {
	d := testkit.Database(b)
	k, err := konstruct.Open(b.Context(),
		konstruct.Config{DatabaseURL: d.URL("konstruct_app"), AssetsDir: devpg.AssetsDir(), Embedder: testkit.Model(b)})
	if err != nil {
		b.Fatal(err)
	}
	defer k.Close()
	agent := k.Tenant(acmeID).Agent(supportID)
	path := filepath.Join(b.TempDir(), "handbook.md")
	if err := os.WriteFile(path, []byte(handbook), 0o600); err != nil {
		b.Fatal(err)
	}
	if err := agent.Ingest(b.Context(), []string{path}, konstruct.DocumentOptions{}, func(konstruct.IngestResult) {},
		nil); err != nil {
		b.Fatal(err)
	}
	ask := func() {
		if r, err := agent.Search(b.Context(), "How do I send it back?", 3); err != nil || len(r.Hits) != 3 {
			b.Fatal(r, err)
		}
	}
	ask()
	b.ReportAllocs()
	before := ownTime(b)
	for b.Loop() {
		ask()
	}
	b.ReportMetric(float64(ownTime(b)-before)/float64(b.N), "ours-µs/op")
}

// ownTime is what this process has used of its processors, in microseconds.
func ownTime(b *testing.B) int64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return (u.Utime.Sec+u.Stime.Sec)*1_000_000 + u.Utime.Usec + u.Stime.Usec
}

package testkit

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/konstruct/konstruct/blob"
	"github.com/konstruct/konstruct/internal/devpg"
)

// Bucket runs an S3-compatible server, which scripts/setup installs, and returns the URL of an object in one of its
// buckets, as blob.OpenS3 reads it.
func Bucket(t *testing.T, object string) string {
	t.Helper()
	bin := filepath.Join(devpg.AssetsDir(), "bin", "versitygw")
	if _, err := os.Stat(bin); err != nil {
		t.Fatalf("%v: run scripts/setup test", err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	dir := t.TempDir()
	for _, d := range []string{"data/evidence", "meta"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), bin, "--port", addr, "posix", "--sidecar", filepath.Join(dir, "meta"),
		filepath.Join(dir, "data"))
	cmd.Env = append(os.Environ(), "ROOT_ACCESS_KEY=test", "ROOT_SECRET_KEY=testtest")
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	t.Setenv("AWS_ACCESS_KEY_ID", "test")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "testtest")
	place := "s3://evidence/" + object + "?region=us-east-1&endpoint=http://" + addr
	b, err := blob.OpenS3(place)
	if err != nil {
		t.Fatal(err)
	}
	for range 100 {
		if _, _, err = b.Load(t.Context()); err == nil {
			return place
		}
		time.Sleep(50 * time.Millisecond)
	}
	raw, _ := os.ReadFile(filepath.Join(dir, "log"))
	t.Fatalf("the gateway does not answer: %v\n%s", err, raw)
	return ""
}

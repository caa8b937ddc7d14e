package webhook_test

import (
	"context"
	"fmt"
	"os"
	"testing"

	"github.com/konstruct/konstruct/internal/testkit"
	"github.com/konstruct/konstruct/tenantdb"
)

// TestMain runs a worker where a test started this program as one, to kill it.
func TestMain(m *testing.M) {
	app := os.Getenv("WEBHOOK_TEST_APP")
	if app == "" {
		testkit.Main(m)
		return
	}
	door, err := tenantdb.Open(context.Background(), app)
	if err == nil {
		err = runWorker(context.Background(), door, os.Getenv("WEBHOOK_TEST_WORKER"), newEndpoints(door), nil)
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

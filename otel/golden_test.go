package otel_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.opentelemetry.io/collector/pdata/plog/plogotlp"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/pdata/ptrace/ptraceotlp"

	"github.com/konstruct/konstruct/otel"
)

var update = flag.Bool("update", false, "write the golden files anew")

// traces returns the spans of an export's file.
func traces(t testing.TB, path string) ptrace.Traces {
	t.Helper()
	in := ptraceotlp.NewExportRequest()
	decode(t, path, in.UnmarshalProto, in.UnmarshalJSON)
	return in.Traces()
}

// decode reads an export's file in the encoding that its name says.
func decode(t testing.TB, path string, asProto, asJSON func([]byte) error) {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err == nil {
		if filepath.Ext(path) == ".json" {
			err = asJSON(raw)
		} else {
			err = asProto(raw)
		}
	}
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

// recorded returns the mapped records of an export's file.
func recorded(t testing.TB, path string) iter.Seq[otel.Mapped] {
	t.Helper()
	if strings.Contains(path, ".traces.") {
		return otel.Spans(traces(t, path), otel.Options{})
	}
	in := plogotlp.NewExportRequest()
	decode(t, path, in.UnmarshalProto, in.UnmarshalJSON)
	return otel.Logs(in.Logs(), otel.Options{})
}

// exports returns the files of real exports, by their case.
func exports(t testing.TB) map[string][]string {
	t.Helper()
	all, err := filepath.Glob("testdata/exports/*/*.*")
	if err != nil {
		t.Fatal(err)
	}
	cases := map[string][]string{}
	for _, path := range all {
		if strings.HasSuffix(path, ".pb") || strings.Contains(path, ".traces.json") ||
			strings.Contains(path, ".logs.json") {
			name, _, _ := strings.Cut(filepath.Base(path), ".")
			name = filepath.Join(filepath.Dir(path), name)
			cases[name] = append(cases[name], path)
		}
	}
	if len(cases) < 10 {
		t.Fatalf("there are %d recorded exports", len(cases))
	}
	return cases
}

// TestRealExportsBecomeTheseEvents holds the mapping of what real SDKs exported to golden files.
func TestRealExportsBecomeTheseEvents(t *testing.T) {
	for name, files := range exports(t) {
		t.Run(name, func(t *testing.T) {
			var got bytes.Buffer
			dropped := 0
			for _, path := range files {
				for m := range recorded(t, path) {
					if m.Dropped {
						dropped++
						continue
					}
					e := m.Event
					raw, err := json.MarshalIndent(map[string]any{"id": e.ID, "action_type": e.Action,
						"agent_id": e.AgentID,
						"user_id":  e.UserID, "input_summary": e.Input, "output_summary": e.Output,
						"latency_ms": e.Latency.Milliseconds(), "created_at": e.At, "metadata": e.Metadata}, "", "  ")
					if err != nil {
						t.Fatal(err)
					}
					fmt.Fprintf(&got, "%s\n", raw)
				}
			}
			fmt.Fprintf(&got, "dropped: %d\n", dropped)
			golden := name + ".events.txt"
			if *update {
				if err := os.WriteFile(golden, got.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(want, got.Bytes()) {
				t.Errorf("%s differs; run with -update and read the difference", golden)
			}
		})
	}
}

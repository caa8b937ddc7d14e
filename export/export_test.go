package export_test

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/blob"
	"github.com/konstruct/konstruct/export"
	"github.com/konstruct/konstruct/internal/devpg"
	"github.com/konstruct/konstruct/internal/testkit"
	"github.com/konstruct/konstruct/tenantdb"
)

func TestMain(m *testing.M) {
	if url := os.Getenv("EXPORT_FROM"); url != "" {
		child(url, os.Getenv("EXPORT_TO"))
	}
	testkit.Main(m)
}

// child runs in a process that exports until it is killed.
func child(url, dir string) {
	door, err := tenantdb.Open(context.Background(), url)
	if err == nil {
		_, _, err = export.Export(context.Background(), sourceOf(door, tenantA), blob.Folder(dir),
			export.Options{Tenant: tenantA, Format: "csv", PartEvents: 200})
	}
	fmt.Println(err)
	os.Exit(1)
}

var (
	tenantA = uuid.MustParse("11111111-1111-4111-8111-111111111111")
	tenantB = uuid.MustParse("22222222-2222-4222-8222-222222222222")
)

// sourceOf returns the source of a tenant's events.
func sourceOf(door *tenantdb.Door, tenant uuid.UUID) export.Source {
	return func(ctx context.Context, f audit.Filter) iter.Seq2[*audit.StoredEvent, error] {
		return audit.All(ctx, door, tenant, f)
	}
}

// trail returns a database with events of every kind, and n more of one kind.
func trail(t testing.TB, n int) *tenantdb.Door {
	t.Helper()
	return fill(t, testkit.Database(t), n)
}

func fill(t testing.TB, d *testkit.DB, n int) *tenantdb.Door {
	t.Helper()
	door := testkit.DoorOf(t, d)
	agent := uuid.MustParse("aaaaaaaa-0000-4000-8000-00000000000a")
	at := time.Date(2026, 11, 1, 10, 0, 0, 123456000, time.UTC)
	events := []audit.Event{
		{Action: "llm_call", AgentID: agent, UserID: "ada", Input: "=HYPERLINK(\"http://evil\")",
			Output: "line\none, \"two\"", Latency: 120 * time.Millisecond,
			Metadata: json.RawMessage(
				`{"gen_ai.request.model":"big","gen_ai.provider.name":"anthropic","gen_ai.usage.input_tokens":812,` +
					`"gen_ai.usage.output_tokens":96,"gen_ai.conversation.id":"c-1"}`)},
		{Action: "tool_invocation", AgentID: agent, Input: "+1", Output: "@SUM(A1)",
			Metadata: json.RawMessage(`{"gen_ai.tool.name":"lookup","error.type":"timeout"}`)},
		{Action: "retrieval", AgentID: agent, UserID: "-ada", Input: "Zürich 🙂",
			Metadata: json.RawMessage(`{"gen_ai.request.model":7,"gen_ai.conversation.id":"c-1"}`)},
		{Action: "escalation", Input: "help"},
		{Action: "x"},
	}
	for i := range n {
		events = append(events, audit.Event{Action: "llm_call", AgentID: agent, UserID: fmt.Sprint("user ", i%7),
			Input: fmt.Sprint("question ", i), Output: "answer", Latency: time.Duration(i) * time.Millisecond,
			Metadata: json.RawMessage(`{"gen_ai.request.model":"small"}`)})
	}
	for i := range events {
		events[i].At = at.Add(time.Duration(i) * time.Second)
	}
	for part := range slices.Chunk(events, audit.MaxBatch) {
		if _, err := audit.LogBatch(t.Context(), door, tenantA, part); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := audit.Log(t.Context(), door, tenantB, audit.Event{Action: "theirs", At: at}); err != nil {
		t.Fatal(err)
	}
	return door
}

func stream(t *testing.T, door *tenantdb.Door, format string) []byte {
	t.Helper()
	var b bytes.Buffer
	n, sum, err := export.Stream(t.Context(), sourceOf(door, tenantA), &b,
		export.Options{Tenant: tenantA, Format: format})
	if err != nil || n != 5 || len(sum) != 64 {
		t.Fatalf("%s: %d events, %q, %v", format, n, sum, err)
	}
	if strings.Contains(b.String(), "theirs") || strings.Contains(b.String(), tenantB.String()) {
		t.Errorf("%s holds another tenant's event", format)
	}
	return b.Bytes()
}

// python runs a program with the Python packages that scripts/setup test installs.
func python(t *testing.T, program string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "python3", append([]string{"-c", program}, args...)...)
	cmd.Env = append(os.Environ(), "PYTHONPATH="+filepath.Join(devpg.AssetsDir(), "readers"))
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return strings.TrimSpace(string(out))
}

func TestJSONLinesHoldWhatIsStored(t *testing.T) {
	door := trail(t, 0)
	lines := bytes.Split(bytes.TrimSpace(stream(t, door, "jsonl")), []byte("\n"))
	stored, err := audit.List(t.Context(), door, tenantA, audit.Filter{})
	if err != nil {
		t.Fatal(err)
	}
	for i, line := range lines {
		var e audit.StoredEvent
		if err := json.Unmarshal(line, &e); err != nil {
			t.Fatal(err)
		}
		want := stored[len(stored)-1-i]
		want.Cursor = ""
		got, _ := json.Marshal(e)
		should, _ := json.Marshal(want)
		if string(got) != string(should) {
			t.Errorf("%s\nwant %s", got, should)
		}
	}
}

func TestCSVRunsNothing(t *testing.T) {
	rows, err := csv.NewReader(bytes.NewReader(stream(t, trail(t, 0), "csv"))).ReadAll()
	if err != nil || len(rows) != 6 {
		t.Fatal(len(rows), err)
	}
	column := func(row int, name string) string { return rows[row][slices.Index(rows[0], name)] }
	for _, c := range []struct {
		row          int
		column, want string
	}{{1, "input_summary", "'=HYPERLINK(\"http://evil\")"}, {1, "output_summary", "line\none, \"two\""},
		{1, "latency_ms", "120"}, {2, "input_summary", "'+1"}, {2, "output_summary", "'@SUM(A1)"},
		{3, "user_id", "'-ada"}, {3, "input_summary", "Zürich 🙂"},
		{1, "created_at", "2026-11-01T10:00:00.123456Z"}, {5, "user_id", ""}} {
		if got := column(c.row, c.column); got != c.want {
			t.Errorf("row %d, %s: %q, want %q", c.row, c.column, got, c.want)
		}
	}
	for _, row := range rows[1:] {
		for _, cell := range row {
			if strings.IndexAny(cell, "=+-@\t\r") == 0 {
				t.Errorf("a spreadsheet takes %q for a formula", cell)
			}
		}
	}
}

// TestParquetOpensInDuckDBAndPandas computes the same statistics with both.
func TestParquetOpensInDuckDBAndPandas(t *testing.T) {
	door := trail(t, 45_000) // three row groups
	dir := t.TempDir()
	m, _, err := export.Export(t.Context(), sourceOf(door, tenantA), blob.Folder(dir),
		export.Options{Tenant: tenantA, Format: "parquet", PartEvents: 30_000})
	if err != nil || m.Events != 45_005 || len(m.Parts) != 2 {
		t.Fatalf("%+v, %v", m, err)
	}
	got := python(t, `
import duckdb, pandas, sys, glob
files = sorted(glob.glob(sys.argv[1] + '/*.parquet'))
print(duckdb.sql(f"""SELECT count(*), sum(latency_ms), count(agent_id), min(created_at)::VARCHAR, count(DISTINCT id),
sum(octet_length(leaf_hash)), typeof(any_value(id)), typeof(any_value(created_at)), typeof(any_value(metadata)),
typeof(any_value(latency_ms)) FROM read_parquet({files})""").fetchall()[0])
print(duckdb.sql(f"""SELECT metadata->>'gen_ai.request.model' AS m, count(*) FROM read_parquet({files}) GROUP BY m
ORDER BY 2 DESC LIMIT 1""").fetchall())
d = pandas.concat(pandas.read_parquet(f) for f in files)
print(len(d), int(d.latency_ms.sum()), d.agent_id.notna().sum(), d.created_at.dtype, d.input_summary.iloc[2],
d.user_id.isna().sum())
`, dir)
	sum := 120
	for i := range 45_000 {
		sum += i
	}
	want :=
		fmt.Sprintf(
			`(45005, %d, 45003, '2026-11-01 10:00:00.123456+00', 45005, %d, `+
				`'UUID', 'TIMESTAMP WITH TIME ZONE', 'JSON', 'INTEGER')
[('small', 45000)]
45005 %d 45003 datetime64[us, UTC] Zürich 🙂 3`, sum, 45_005*32, sum)
	if got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
}

// TestJSONFollowsTheSchemas validates OCSF and CloudEvents against their schemas.
func TestJSONFollowsTheSchemas(t *testing.T) {
	door := trail(t, 0)
	check := `
import json, sys, jsonschema
schema = json.load(open(sys.argv[1]))
validator = jsonschema.validators.validator_for(schema)(schema, format_checker=jsonschema.FormatChecker())
n = 0
for line in open(sys.argv[2]):
    for e in validator.iter_errors(json.loads(line)):
        print(list(e.path), e.message)
    n += 1
print(n)
`
	for format, schema := range map[string]string{"ocsf": "ocsf.schema.json",
		"cloudevents": "cloudevents.schema.json"} {
		raw := stream(t, door, format)
		file := filepath.Join(t.TempDir(), "events")
		if err := os.WriteFile(file, raw, 0o600); err != nil {
			t.Fatal(err)
		}
		if got := python(t, check, filepath.Join("testdata", schema), file); got != "5" {
			t.Errorf("%s: %s", format, got)
		}
		// The validation can fail.
		broken := bytes.ReplaceAll(bytes.ReplaceAll(raw, []byte(`"specversion":"1.0",`), nil),
			[]byte(`"severity_id":1,`), nil)
		if err := os.WriteFile(file, broken, 0o600); err != nil {
			t.Fatal(err)
		}
		if got := python(t, check, filepath.Join("testdata", schema), file); !strings.Contains(got,
			"is a required property") {
			t.Errorf("%s without a required attribute: %s", format, got)
		}
	}
	var first struct {
		TypeUID int `json:"type_uid"`
		Model   struct {
			Name     string `json:"name"`
			Provider string `json:"ai_provider"`
		} `json:"ai_model"`
		Context struct {
			Total int `json:"total_tokens"`
		} `json:"message_context"`
	}
	if err := json.Unmarshal(bytes.SplitN(stream(t, door, "ocsf"), []byte("\n"), 2)[0], &first); err != nil ||
		first.TypeUID != 600399 || first.Model.Name != "big" || first.Model.Provider != "anthropic" ||
		first.Context.Total != 908 {
		t.Errorf("%+v, %v", first, err)
	}
}

// failing is a bucket that fails at a write.
type failing struct {
	blob.Bucket
	at, n int
}

func (f *failing) Write(ctx context.Context, name string, raw []byte) error {
	if f.n++; f.n == f.at {
		return errors.New("the target broke")
	}
	return f.Bucket.Write(ctx, name, raw)
}

// TestAnExportGoesOnWhereItWasLeft fails each write once, and ends with the same export.
func TestAnExportGoesOnWhereItWasLeft(t *testing.T) {
	door := trail(t, 95)
	o := export.Options{Tenant: tenantA, Format: "jsonl", PartEvents: 30}
	for name, open := range map[string]func(at int) blob.Bucket{
		"a folder": func(int) blob.Bucket { return blob.Folder(t.TempDir()) },
		"a bucket": func(at int) blob.Bucket {
			b, err := blob.Open(testkit.Bucket(t, fmt.Sprint("export-", at)))
			if err != nil {
				t.Fatal(err)
			}
			return b
		},
	} {
		t.Run(name, func(t *testing.T) {
			for at := 1; at <= 9; at += map[string]int{"a folder": 1, "a bucket": 4}[name] {
				to := open(at)
				_, _, err := export.Export(t.Context(), sourceOf(door, tenantA), &failing{Bucket: to, at: at}, o)
				if err == nil || !strings.Contains(err.Error(), "the target broke") {
					t.Fatalf("broken at write %d: %v", at, err)
				}
				if m, _, err := export.Verify(t.Context(), to); at > 2 && (err != nil || m.Complete) {
					t.Errorf("half an export: %+v, %v", m, err)
				}
				m, sum, err := export.Export(t.Context(), sourceOf(door, tenantA), to, o)
				if err != nil || !m.Complete || m.Events != 100 || len(m.Parts) != 4 {
					t.Fatalf("gone on after write %d: %+v, %v", at, m, err)
				}
				if _, again, err := export.Verify(t.Context(), to); err != nil || again != sum {
					t.Errorf("%s, want %s: %v", again, sum, err)
				}
				seen := map[string]int{}
				for _, p := range m.Parts {
					raw, err := to.Read(t.Context(), p.Name)
					if err != nil {
						t.Fatal(err)
					}
					for _, line := range bytes.Split(bytes.TrimSpace(raw), []byte("\n")) {
						var e audit.StoredEvent
						if err := json.Unmarshal(line, &e); err != nil {
							t.Fatal(err)
						}
						seen[e.ID.String()]++
					}
				}
				if len(seen) != 100 {
					t.Errorf("%d events", len(seen))
				}
			}
		})
	}
}

// TestAKilledExportGoesOn kills the exporting process several times, at any point.
func TestAKilledExportGoesOn(t *testing.T) {
	d := testkit.Database(t)
	door := fill(t, d, 9_995)
	dir := t.TempDir()
	before := 0
	for kills := 1; kills <= 4; kills++ {
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		cmd.Env = append(os.Environ(), "EXPORT_FROM="+d.URL("konstruct_app"), "EXPORT_TO="+dir)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- cmd.Wait() }()
		for done := false; !done; {
			select {
			case err := <-ended:
				t.Fatalf("it ended before it was killed: %v", err)
			case <-time.After(2 * time.Millisecond):
				m, _, err := export.Read(t.Context(), blob.Folder(dir))
				done = err == nil && m != nil && len(m.Parts) >= before+3
			}
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		<-ended
		m, _, err := export.Verify(t.Context(), blob.Folder(dir))
		if err != nil || m.Complete || len(m.Parts) < before+3 {
			t.Fatalf("after kill %d: %+v, %v", kills, m, err)
		}
		before = len(m.Parts)
	}
	m, _, err := export.Export(t.Context(), sourceOf(door, tenantA), blob.Folder(dir),
		export.Options{Tenant: tenantA, Format: "csv", PartEvents: 200})
	if err != nil || m.Events != 10_000 || len(m.Parts) != 50 {
		t.Fatalf("%+v, %v", m, err)
	}
	seen := map[string]bool{}
	for _, p := range m.Parts {
		raw, err := os.ReadFile(filepath.Join(dir, p.Name))
		if err != nil {
			t.Fatal(err)
		}
		rows, err := csv.NewReader(bytes.NewReader(raw)).ReadAll()
		if err != nil {
			t.Fatal(err)
		}
		for _, row := range rows[1:] {
			seen[row[0]] = true
		}
	}
	if len(seen) != 10_000 {
		t.Errorf("%d events are in the files", len(seen))
	}
}

func TestExportsAreRefusedClearly(t *testing.T) {
	door := trail(t, 50)
	ctx := t.Context()
	o := export.Options{Tenant: tenantA, Format: "jsonl", PartEvents: 20}
	to := blob.Folder(t.TempDir())
	if _, _, err := export.Export(ctx, sourceOf(door, tenantA), &failing{Bucket: to, at: 3}, o); err == nil {
		t.Fatal("it did not break")
	}
	other := o
	other.Format = "csv"
	if _, _, err := export.Export(ctx, sourceOf(door, tenantA), to, other); !errors.Is(err, export.ErrDifferent) {
		t.Errorf("another format: %v", err)
	}
	other = o
	other.Filter.Action = "x"
	if _, _, err := export.Export(ctx, sourceOf(door, tenantA), to, other); !errors.Is(err, export.ErrDifferent) {
		t.Errorf("another filter: %v", err)
	}
	other = o
	other.Tenant = tenantB
	if _, _, err := export.Export(ctx, sourceOf(door, tenantB), to, other); !errors.Is(err, export.ErrDifferent) {
		t.Errorf("another tenant: %v", err)
	}
	m, _, err := export.Export(ctx, sourceOf(door, tenantA), to, o)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := export.Export(ctx, sourceOf(door, tenantA), to, o); !errors.Is(err, export.ErrComplete) {
		t.Errorf("complete already: %v", err)
	}
	for _, f := range []audit.Filter{{After: "x"}, {Limit: 10}} {
		if _, _, err := export.Export(ctx, sourceOf(door, tenantA), to, export.Options{Format: "csv",
			Filter: f}); !errors.Is(err, export.ErrCursor) {
			t.Errorf("%+v: %v", f, err)
		}
	}
	if _, _, err := export.Export(ctx, sourceOf(door, tenantA), to, export.Options{Format: "xml"}); err == nil ||
		!strings.Contains(err.Error(), `"xml" is none of jsonl, csv`) {
		t.Errorf("%v", err)
	}
	bad := o
	bad.Filter = audit.Filter{Since: time.Now(), Until: time.Now().Add(-time.Hour)}
	var field *audit.FieldError
	if _, _, err := export.Export(ctx, sourceOf(door, tenantA), blob.Folder(t.TempDir()),
		bad); !errors.As(err, &field) || field.Field != "since" {
		t.Errorf("a time range reversed: %v", err)
	}
	// A changed file and a missing one.
	path := filepath.Join(string(to), m.Parts[1].Name)
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	raw[10] ^= 1
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := export.Verify(ctx, to); !errors.Is(err, export.ErrBroken) ||
		!strings.Contains(err.Error(), m.Parts[1].Name+" was changed") {
		t.Errorf("%v", err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if _, _, err := export.Verify(ctx, to); !errors.Is(err, export.ErrBroken) ||
		!strings.Contains(err.Error(), "is gone") {
		t.Errorf("%v", err)
	}
	if _, _, err := export.Verify(ctx, blob.Folder(t.TempDir())); !errors.Is(err, export.ErrBroken) {
		t.Errorf("an empty folder: %v", err)
	}
	// Targets that refuse, and one that does not answer in time.
	nobody, err := blob.Open("s3://evidence/x?region=us-east-1&endpoint=http://127.0.0.1:1")
	if err != nil {
		t.Fatal(err)
	}
	short, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
	defer cancel()
	if _, _, err := export.Export(short, sourceOf(door, tenantA), nobody, o); err == nil {
		t.Error("nobody answers, and it is exported")
	}
	if _, _, err := export.Stream(ctx, sourceOf(door, tenantA), brokenPipe{}, o); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("%v", err)
	}
}

type brokenPipe struct{}

func (brokenPipe) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

// TestAFullDiskLeavesAWholeExport fills a real file system.
func TestAFullDiskLeavesAWholeExport(t *testing.T) {
	door := trail(t, 3000)
	dir := testkit.SmallDisk(t, 400<<10)
	o := export.Options{Tenant: tenantA, Format: "jsonl", PartEvents: 500}
	m, _, err := export.Export(t.Context(), sourceOf(door, tenantA), blob.Folder(dir), o)
	if err == nil || !strings.Contains(err.Error(), "no space left") || m == nil || len(m.Parts) == 0 {
		t.Fatalf("%+v, %v", m, err)
	}
	there, _, err := export.Verify(t.Context(), blob.Folder(dir))
	if err != nil || there.Complete || there.Events != m.Events {
		t.Errorf("%+v, %v", there, err)
	}
}

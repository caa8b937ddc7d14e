package main

import (
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/konstruct/konstruct/internal/testkit"
)

// TestAReportOutlivesTheService kills the service while a log record waits for its span: doctor says that it is
// overdue, and the next service logs it, once.
func TestAReportOutlivesTheService(t *testing.T) {
	d := testkit.Database(t)
	service, url, key := serving(t, d, "KONSTRUCT_METRICS_LISTEN=127.0.0.1:0")
	r, err := http.NewRequestWithContext(t.Context(), "POST", url+"/v1/logs", strings.NewReader(
		`{"resourceLogs": [{"scopeLogs": [{"logRecords": [{"traceId": "0af7651916cd43dd8448eb211c80319c",
		"spanId": "b7ad6b7169203331", "timeUnixNano": "1796048440133794358",
		"eventName": "gen_ai.client.inference.operation.details", "attributes": [
		{"key": "gen_ai.operation.name", "value": {"stringValue": "chat"}},
		{"key": "gen_ai.usage.input_tokens", "value": {"intValue": "7"}}]}]}]}]}`))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Authorization", "Bearer "+key)
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	_ = answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		t.Fatal(answer.Status)
	}
	if err := service.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = service.Wait()

	super := testkit.Connect(t, d.SuperuserURL())
	count := func() (waiting, logged int) {
		t.Helper()
		if err := super.QueryRow(t.Context(), `SELECT (SELECT count(*) FROM audit_reports),
			(SELECT count(*) FROM audit_events WHERE action_type IN ('llm_call', 'call_details'))`).
			Scan(&waiting, &logged); err != nil {
			t.Fatal(err)
		}
		return waiting, logged
	}
	if waiting, logged := count(); waiting != 1 || logged != 0 {
		t.Fatalf("%d wait, %d are logged", waiting, logged)
	}
	doctor := func() (string, error) {
		cmd := exec.CommandContext(t.Context(), testkit.Build(t), "doctor")
		cmd.Env = append(os.Environ(), "KONSTRUCT_DATABASE_URL="+d.URL("konstruct_app"),
			"KONSTRUCT_WORKER_DATABASE_URL="+d.URL("konstruct_worker"), "KONSTRUCT_DATA_DIR="+t.TempDir())
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	if out, err := doctor(); err != nil {
		t.Errorf("nothing is overdue yet: %v\n%s", err, out)
	}
	for _, sql := range []string{`UPDATE river_job SET scheduled_at = now() - interval '2 minutes'`,
		`UPDATE audit_reports SET due = now() - interval '2 minutes', since = now() - interval '2 minutes'`} {
		if tag, err := super.Exec(t.Context(), sql); err != nil || tag.RowsAffected() != 1 {
			t.Fatalf("%s: %v, %v", sql, tag, err)
		}
	}
	if out, err := doctor(); err == nil || !strings.Contains(out, "of 1 tenant, since") {
		t.Errorf("a report is overdue: %v\n%s", err, out)
	}

	_, _, _ = serving(t, d, "KONSTRUCT_METRICS_LISTEN=127.0.0.1:0")
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		waiting, logged := count()
		if waiting == 0 && logged == 1 {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("%d wait, %d are logged", waiting, logged)
		}
	}
	if out, err := doctor(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

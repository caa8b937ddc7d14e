package bench

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

var tps = regexp.MustCompile(`(?m)^tps = ([0-9.]+)`)

// pgbench measures the same insert of 1,000 rows, sealed and as konstruct_app, by PostgreSQL's own load
// maker, whose values are constants and whose ids the server draws, so that its client does nothing. In mode "prepared"
// the server reads the values once and never again; in mode "simple" it reads statement and values each time.
func (b *Bench) pgbench(ctx context.Context, mode string, conns int) (Measurement, error) {
	bin := filepath.Join(b.PostgreSQL.Bin, "pgbench")
	if _, err := os.Stat(bin); err != nil {
		return Measurement{},
			fmt.Errorf("pgbench is a baseline, and not in %s: install it (Debian: postgresql-contrib)",
				b.PostgreSQL.Bin)
	}
	e := sample()
	row := fmt.Sprintf("('%s'::uuid,'%s'::uuid,'%s','%s','%s','%s',%d,'%s'::jsonb)", tenant, e.AgentID, e.UserID,
		e.Action, e.Input, e.Output, e.Latency.Milliseconds(), e.Metadata)
	rows := strings.TrimSuffix(strings.Repeat(row+",", batch), ",")
	script := filepath.Join(b.Dir, "insert.sql")
	sql := "BEGIN;\nSET LOCAL app.current_tenant = '" + tenant.String() + "';\nINSERT INTO audit_events (tenant_id, " +
		"agent_id, user_id, action_type, input_summary, output_summary, latency_ms, metadata) VALUES " + rows +
		";\nCOMMIT;\n"
	if err := os.WriteFile(script, []byte(sql), 0o600); err != nil {
		return Measurement{}, err
	}
	if err := b.settle(ctx); err != nil {
		return Measurement{}, err
	}
	n := strconv.Itoa(conns)
	cmd := exec.CommandContext(ctx, bin, "-n", "-M", mode, "-c", n, "-j", n, "-T",
		strconv.Itoa(max(1, int(b.Time.Seconds()))), "-f", script, b.url("konstruct_app"))
	out, err := cmd.CombinedOutput()
	if err != nil {
		return Measurement{}, fmt.Errorf("pgbench: %w: %.500s", err, out)
	}
	m := tps.FindSubmatch(out)
	if m == nil {
		return Measurement{}, fmt.Errorf("pgbench says no rate: %.500s", out)
	}
	rate, err := strconv.ParseFloat(string(m[1]), 64)
	if err != nil {
		return Measurement{}, err
	}
	return Measurement{What: "pgbench, the same insert sealed, " + mode + ", " + connections(conns), Unit: "events",
		Rate: rate * batch}, nil
}

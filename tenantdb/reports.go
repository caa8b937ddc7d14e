package tenantdb

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct/plural"
)

// lateReport is how long a log record of a call may wait: a worker that runs logs it after some seconds.
const lateReport = time.Minute

// ReportsCheck says whether log records of calls are logged in time where their spans do not come. It asks as
// konstruct_worker, which sees whose they are and since when they wait.
func ReportsCheck(ctx context.Context, workerURL string) (Check, error) {
	const none = "none is overdue"
	c := Check{Name: "log records that wait for their spans", Actual: none, Expected: none,
		Fix: "konstruct serve or konstruct kb work; its log says why one can't be logged"}
	conn, err := pgx.Connect(ctx, workerURL)
	if err != nil {
		return c, fmt.Errorf("open the worker's database: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	var tenants int
	var since time.Time
	if err := conn.QueryRow(ctx, `SELECT count(DISTINCT tenant_id), coalesce(min(since), now()) FROM audit_reports
		WHERE since < now() - make_interval(secs => $1)`, lateReport.Seconds()).Scan(&tenants, &since); err != nil {
		return c, fmt.Errorf("look for log records that wait: %w", err)
	}
	if c.OK = tenants == 0; !c.OK {
		c.Actual = fmt.Sprintf("of %s, since %s", plural.Of(tenants, "tenant", "tenants"),
			since.UTC().Format(time.RFC3339))
	}
	return c, nil
}

package tenantdb

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct/plural"
)

// lateWebhook is how long a message may be overdue that a worker should send.
const lateWebhook = 5 * time.Minute

// WebhookChecks say whether webhooks' messages are sent in time, and how many could not be delivered. Only the first is
// the operator's to mend: endpoints are their tenants'. It asks as konstruct_worker, which sees whose they are.
func WebhookChecks(ctx context.Context, workerURL string) ([]Check, error) {
	conn, err := pgx.Connect(ctx, workerURL)
	if err != nil {
		return nil, fmt.Errorf("open the worker's database: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	var late, lateTenants, dead, deadTenants, disabled int
	if err := conn.QueryRow(ctx, `SELECT late.*, dead.*, (SELECT count(*) FROM webhook_endpoints WHERE NOT enabled)
		  FROM (SELECT count(*), count(DISTINCT d.tenant_id) FROM webhook_deliveries d
		          JOIN webhook_endpoints e ON e.tenant_id = d.tenant_id AND e.id = d.endpoint_id AND e.enabled
		         WHERE d.state IN ('queued', 'running') AND d.due < now() - make_interval(secs => $1)) late,
		       (SELECT count(*), count(DISTINCT tenant_id) FROM webhook_deliveries WHERE state = 'dead') dead`,
		lateWebhook.Seconds()).Scan(&late, &lateTenants, &dead, &deadTenants, &disabled); err != nil {
		return nil, fmt.Errorf("look at webhooks: %w", err)
	}
	some := func(n, tenants int, none string) string {
		if n == 0 {
			return none
		}
		return plural.Of(n, "message", "messages") + " of " + plural.Of(tenants, "tenant", "tenants")
	}
	overdue := some(late, lateTenants, "none")
	return []Check{
		{Name: "webhooks: overdue deliveries", Actual: overdue, Expected: "none", OK: late == 0,
			Fix: "konstruct serve or konstruct kb work, with KONSTRUCT_KEY_SECRET_FILE; its log says why"},
		{Name: "webhooks: dead letters", Actual: some(dead, deadTenants, "none"), OK: true,
			Expected: "any number: konstruct webhooks resend"},
		{Name: "webhooks: disabled", Actual: fmt.Sprint(disabled), OK: true,
			Expected: "any number: konstruct webhooks list"},
	}, nil
}

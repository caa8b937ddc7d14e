package tenantdb

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// heartbeat is how often a connection that only listens is asked whether it is there.
const heartbeat = 2 * time.Second

// Listen calls heard once it listens on a channel, and again for each notification, until the context ends or the
// connection is lost, which it says. It takes a connection of its own, which must not run through a pooler that shares
// connections between transactions; nothing is read through it.
func (d *Door) Listen(ctx context.Context, channel string, heard func()) error {
	pooled, _, err := d.acquire(ctx)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	conn := pooled.Hijack()
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseLimit)
		defer cancel()
		_ = conn.Close(ctx)
	}()
	if _, err := conn.Exec(ctx, `LISTEN `+pgx.Identifier{channel}.Sanitize()); err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	for heard(); ; {
		wait, cancel := context.WithTimeout(ctx, heartbeat)
		_, err := conn.WaitForNotification(wait)
		cancel()
		switch {
		case err == nil:
			heard()
			continue
		case ctx.Err() != nil:
			return ctx.Err()
		case wait.Err() == nil || conn.IsClosed():
			return fmt.Errorf("listen: %w", err)
		}
		ping, cancel := context.WithTimeout(ctx, heartbeat)
		err = conn.Ping(ping)
		cancel()
		if err != nil {
			return fmt.Errorf("listen: %w", err)
		}
	}
}

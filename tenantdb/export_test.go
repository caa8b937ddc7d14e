package tenantdb

import (
	"context"
	"strings"
)

// CatalogText is the catalog as it is, in the form of catalog.txt.
func CatalogText(ctx context.Context, d *Door) (string, error) {
	conn, err := d.pool.Acquire(ctx)
	if err != nil {
		return "", err
	}
	defer conn.Release()
	lines, err := catalogLines(ctx, conn.Conn())
	return strings.Join(lines, "\n") + "\n", err
}

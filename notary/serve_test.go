package notary_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/google/uuid"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/konstruct/konstruct/internal/trailkit"
	"github.com/konstruct/konstruct/ledger"
	"github.com/konstruct/konstruct/notary"
)

// tileClient is a tlog.TileReader over files of the C2SP layout, wherever they are read from.
type tileClient struct {
	t    *testing.T
	read func(path string) ([]byte, error)
}

func (c *tileClient) Height() int                     { return ledger.TileHeight }
func (c *tileClient) SaveTiles([]tlog.Tile, [][]byte) {}
func (c *tileClient) ReadTiles(tiles []tlog.Tile) (out [][]byte, err error) {
	for _, t := range tiles {
		raw, err := c.read(ledger.TilePath(t))
		if err != nil {
			return nil, err
		}
		out = append(out, raw)
	}
	return out, nil
}

// served asks for a file over HTTP.
func served(t *testing.T, o *trailkit.Trail, log uuid.UUID, path string) ([]byte, error) {
	t.Helper()
	w := httptest.NewRecorder()
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.URL.Path = "/" + path
	notary.Handler(o.Logs, log).ServeHTTP(w, r)
	if w.Code != http.StatusOK {
		return nil, fmt.Errorf("%d %s", w.Code, w.Body)
	}
	return w.Body.Bytes(), nil
}

// TestATileBeyondTheLogIsNotFound asks for tiles of every level, up to those whose end in leaves overflows 64 bits.
func TestATileBeyondTheLogIsNotFound(t *testing.T) {
	o := trailkit.Open(t)
	o.Log(trailkit.TenantA, 300)
	o.Round()
	if _, err := served(t, o, trailkit.TenantA, "tile/1/000.p/1"); err != nil {
		t.Errorf("a tile that is there: %v", err)
	}
	for _, path := range []string{"tile/0/001", "tile/0/001.p/45", "tile/1/000", "tile/2/000.p/1", "tile/6/000",
		"tile/7/000.p/1", "tile/7/000.p/128", "tile/7/000", "tile/7/001.p/1", "tile/8/000", "tile/63/000",
		"tile/0/x999/x999/x999/x999/x999/999", "tile/7/x999/x999/x999/999"} {
		if _, err := served(t, o, trailkit.TenantA, path); err == nil || err.Error()[:3] != "404" {
			t.Errorf("%s: %v, want 404", path, err)
		}
	}
}

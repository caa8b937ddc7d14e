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

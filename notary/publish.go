package notary

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/konstruct/konstruct/blob"
	"github.com/konstruct/konstruct/ledger"
	"github.com/konstruct/konstruct/logstore"
	"github.com/konstruct/konstruct/tenantdb"
)

// Identity returns an id of a database: equal for the same cluster and name, whatever the address.
func Identity(ctx context.Context, db *tenantdb.Evidence) (id string, err error) {
	err = db.Snapshot(ctx, func(tx pgx.Tx) error {
		return tx.QueryRow(ctx, `SELECT system_identifier || ' ' || current_database() FROM pg_control_system()`).
			Scan(&id)
	})
	h := sha256.Sum256([]byte(id))
	return hex.EncodeToString(h[:8]), err
}

// ErrNoFile means that a log has no such file: an unsigned checkpoint, or a tile beyond its size.
var ErrNoFile = errors.New("the log has no such file")

// ReadFile returns a file of a log in the C2SP tlog-tiles layout: "checkpoint", or a tile's path. Entries are not
// served: a tenant log's entries are its events, and the super-log's are salted hashes that only a log's owner can
// open.
func ReadFile(ctx context.Context, db *tenantdb.Evidence, log uuid.UUID, path string) (raw []byte, err error) {
	err = db.Snapshot(ctx, func(tx pgx.Tx) error { raw, err = readFile(ctx, tx, log, path); return err })
	return raw, err
}

func readFile(ctx context.Context, tx pgx.Tx, log uuid.UUID, path string) ([]byte, error) {
	h, note, err := logstore.LastSigned(ctx, tx, log, 0)
	if errors.Is(err, logstore.ErrNotInLog) {
		return nil, ErrNoFile
	}
	if err != nil {
		return nil, err
	}
	if path == "checkpoint" {
		if log == logstore.Operator {
			note, err = logstore.WithCosignatures(ctx, tx, note, h.Size)
		}
		return []byte(note), err
	}
	t, ok := ledger.ParseTilePath(path)
	if !ok || t.L < 0 || t.L > 7 {
		return nil, ErrNoFile
	}
	// Only tiles of the signed tree: width W of tile N at level L covers leaves up to end.
	// Both sides are in hashes of the tile's level: in leaves, the end of a high tile overflows.
	if end := t.N<<ledger.TileHeight + int64(t.W); t.N > h.Size || end > h.Size>>(ledger.TileHeight*t.L) {
		return nil, ErrNoFile
	}
	tiles, err := logstore.NewReader(ctx, tx, log, h.Size).ReadTiles([]tlog.Tile{t})
	if err != nil {
		return nil, err
	}
	return tiles[0], nil
}

// Handler serves a log's checkpoint and tiles read-only to C2SP tlog-tiles clients.
func Handler(db *tenantdb.Evidence, log uuid.UUID) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path := strings.TrimPrefix(r.URL.Path, "/")
		raw, err := ReadFile(r.Context(), db, log, path)
		switch {
		case errors.Is(err, ErrNoFile):
			http.Error(w, "this log has no such file", http.StatusNotFound)
			return
		case err != nil:
			http.Error(w, "the log can't be read now", http.StatusServiceUnavailable)
			return
		}
		w.Header().Set("Content-Type", "application/octet-stream")
		w.Header().Set("Cache-Control", "public, max-age=31536000, immutable") // a tile never changes
		if path == "checkpoint" {
			w.Header().Set("Content-Type", "text/plain; charset=utf-8")
			w.Header().Set("Cache-Control", "no-cache")
		}
		_, _ = w.Write(raw)
	})
}

// Publish writes the new tiles of a log to a bucket and then its checkpoint. It returns the number of files written and
// the checkpoint's size. Partial tiles of earlier sizes stay.
func Publish(ctx context.Context, db *tenantdb.Evidence, log uuid.UUID,
	to blob.Bucket) (files int, size int64, err error) {
	err = db.Snapshot(ctx, func(tx pgx.Tx) error {
		h, _, err := logstore.LastSigned(ctx, tx, log, 0)
		if err != nil {
			return err
		}
		size = h.Size
		raw, err := to.Read(ctx, "checkpoint")
		if err != nil {
			return err
		}
		published := int64(0)
		text, _, _ := strings.Cut(string(raw), "\n\n")
		if c, err := ledger.ParseCheckpoint(text + "\n"); err == nil && c.Size <= size {
			published = c.Size
		}
		names := []string{}
		for _, t := range tlog.NewTiles(ledger.TileHeight, published, size) {
			names = append(names, ledger.TilePath(t))
		}
		for _, name := range append(names, "checkpoint") { // last, when all tiles that it covers are there
			raw, err := readFile(ctx, tx, log, name)
			if err == nil {
				err = to.Write(ctx, name, raw)
			}
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			files++
		}
		return nil
	})
	if err != nil {
		return files, size, fmt.Errorf("publish log %s: %w", log, err)
	}
	return files, size, nil
}

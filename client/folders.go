package client

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/google/uuid"
)

// withoutService is the folder of events that were kept where no service was set.
const withoutService = "no-service"

// folderOf names the folder of a service and key.
func folderOf(url, key string) string {
	if url == "" {
		return withoutService
	}
	sum := sha256.Sum256([]byte(url + "\x00" + key))
	return fmt.Sprintf("%x", sum[:8])
}

// Other is a folder of the spool whose events wait under another key, or under none.
type Other struct {
	Name     string    `json:"folder"`
	TenantID uuid.UUID `json:"tenant_id,omitzero"` // zero: no service has told it
	Files    int       `json:"waiting_files"`
}

// Others lists the other folders of the spool in which events wait.
func (c *Client) Others() (all []Other, err error) {
	root := filepath.Dir(c.spool.dir)
	entries, err := os.ReadDir(root)
	if err != nil {
		return nil, fmt.Errorf("read the spool: %w", err)
	}
	for _, e := range entries {
		if !e.IsDir() || e.Name() == filepath.Base(c.spool.dir) {
			continue
		}
		other := &spool{dir: filepath.Join(root, e.Name())}
		names, err := other.waiting()
		if err != nil || len(names) == 0 { // no folder of this kind
			continue
		}
		o := Other{Name: e.Name(), Files: len(names)}
		var kept cachedRules
		if raw, err := os.ReadFile(other.path(rulesName)); err == nil && json.Unmarshal(raw, &kept) == nil {
			o.TenantID = kept.TenantID
		}
		all = append(all, o)
	}
	return all, nil
}

// Adopt takes over the events that wait under the tenant's other keys, such as one that was rotated, so that this key
// delivers them. With unknown it also takes over those whose tenant no service has told: those kept without a service,
// or under a key with which no service was ever reached. It returns how many files it took over.
func (c *Client) Adopt(ctx context.Context, unknown bool) (files int, err error) {
	others, err := c.Others()
	if err != nil || len(others) == 0 {
		return 0, err
	}
	mine, err := c.readRules()
	if errors.Is(err, fs.ErrNotExist) {
		if err = c.Refresh(ctx); err == nil {
			mine, err = c.readRules()
		}
	}
	if err != nil {
		return 0, fmt.Errorf("adopt other events: %w", err)
	}
	for _, o := range others {
		if o.TenantID != mine.TenantID && (o.TenantID != uuid.Nil || !unknown) {
			continue
		}
		from := &spool{dir: filepath.Join(filepath.Dir(c.spool.dir), o.Name)}
		names, err := from.waiting()
		if err != nil {
			return files, err
		}
		for _, name := range names {
			err := os.Rename(filepath.Join(from.dir, newDir, name), filepath.Join(c.spool.dir, newDir, name))
			if errors.Is(err, fs.ErrNotExist) { // delivered meanwhile
				continue
			}
			if err != nil {
				return files, fmt.Errorf("adopt other events: %w", err)
			}
			files++
		}
	}
	return files, syncDir(filepath.Join(c.spool.dir, newDir))
}

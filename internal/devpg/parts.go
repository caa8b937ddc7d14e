package devpg

import (
	"os"
	"path/filepath"
)

// AssetsDir returns the folder that `make setup` fills: KONSTRUCT_ASSETS_DIR, or the user's own data
// folder; root's is one that the unprivileged user running PostgreSQL can reach.
func AssetsDir() string {
	if d := os.Getenv("KONSTRUCT_ASSETS_DIR"); d != "" {
		return d
	}
	if os.Geteuid() == 0 {
		return "/var/lib/konstruct"
	}
	if d := os.Getenv("XDG_DATA_HOME"); d != "" {
		return filepath.Join(d, "konstruct")
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return filepath.Join(os.TempDir(), "konstruct")
	}
	return filepath.Join(home, ".local", "share", "konstruct")
}

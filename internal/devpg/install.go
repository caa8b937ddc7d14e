// Package devpg runs a private PostgreSQL with pgvector for development and tests: a cluster of its
// own in a data folder, reached by a socket or loopback only, gone when its owner is.
package devpg

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"sort"
	"strconv"
	"strings"
)

// MinVersion is the oldest PostgreSQL major version that serves.
const MinVersion = 15

// Installation is a PostgreSQL server on this machine that has pgvector.
type Installation struct {
	Bin     string // folder of initdb, postgres, pg_ctl
	Version int    // major version
}

// ErrNotInstalled says that no PostgreSQL with pgvector was found.
var ErrNotInstalled = errors.New("no PostgreSQL 15 or newer with pgvector found: run `make setup`")

// Find returns the newest installation that has pgvector: what the machine has, then what the
// project's setup unpacked below partsDir.
func Find(partsDir string) (Installation, error) {
	var system, private []string
	if p, err := exec.LookPath("pg_config"); err == nil {
		if out, err := exec.Command(p, "--bindir").Output(); err == nil {
			system = append(system, strings.TrimSpace(string(out)))
		}
	}
	for _, pattern := range []string{"/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin",
		"/opt/homebrew/opt/postgresql@*/bin"} {
		m, _ := filepath.Glob(pattern)
		system = append(system, m...)
	}
	private, _ = filepath.Glob(filepath.Join(partsDir, "postgresql", "*", "bin"))
	for _, bins := range [][]string{system, private} {
		var found []Installation
		for _, bin := range bins {
			if in, ok := inspect(bin); ok {
				found = append(found, in)
			}
		}
		if len(found) > 0 {
			sort.SliceStable(found, func(i, j int) bool { return found[i].Version > found[j].Version })
			return found[0], nil
		}
	}
	return Installation{}, ErrNotInstalled
}

var versionRE = regexp.MustCompile(`\(PostgreSQL\) (\d+)`)

// inspect asks the server's own binaries for their version and where extensions stand.
func inspect(bin string) (Installation, bool) {
	out, err := exec.Command(filepath.Join(bin, "postgres"), "--version").Output()
	if err != nil {
		return Installation{}, false
	}
	m := versionRE.FindSubmatch(out)
	if m == nil {
		return Installation{}, false
	}
	version, err := strconv.Atoi(string(m[1]))
	if err != nil || version < MinVersion {
		return Installation{}, false
	}
	share, err := exec.Command(filepath.Join(bin, "pg_config"), "--sharedir").Output()
	if err != nil {
		return Installation{}, false
	}
	if _, err := os.Stat(filepath.Join(strings.TrimSpace(string(share)), "extension", "vector.control")); err != nil {
		return Installation{}, false
	}
	return Installation{Bin: bin, Version: version}, true
}

// String names the installation for people.
func (in Installation) String() string { return fmt.Sprintf("PostgreSQL %d in %s", in.Version, in.Bin) }

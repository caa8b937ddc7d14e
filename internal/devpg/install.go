// Package devpg runs a private PostgreSQL with pgvector for development and tests: a cluster of its own in a data
// folder, reached only by a socket or loopback, and stopped when its owner ends.
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

// MinVersion is the oldest supported major version of PostgreSQL.
const MinVersion = 15

// Installation is a PostgreSQL server on this machine that has pgvector.
type Installation struct {
	Bin     string // folder of initdb, postgres, pg_ctl
	Version int    // major version
}

// ErrNotInstalled means that no PostgreSQL with pgvector was found.
var ErrNotInstalled = errors.New("no PostgreSQL 15 or newer with pgvector found: run `make setup`")

// Find returns the newest installation that has pgvector: first of the machine, then of those that the setup unpacked
// below partsDir.
func Find(partsDir string) (Installation, error) {
	all := installations(partsDir)
	if len(all) == 0 {
		return Installation{}, ErrNotInstalled
	}
	return all[0], nil
}

// FindFor returns the installation for the private database in dataDir: of the major version that created it, or that
// of Find if there is no database yet. If that version is not installed, the error is a *VersionError.
func FindFor(partsDir, dataDir string) (Installation, error) {
	dir, err := filepath.Abs(dataDir)
	if err != nil {
		return Installation{}, err
	}
	root, err := home(dir)
	if err != nil {
		return Installation{}, err
	}
	created, err := createdBy(root)
	if err != nil {
		return Installation{}, err
	}
	if created == 0 {
		return Find(partsDir)
	}
	all := installations(partsDir)
	for _, in := range all {
		if in.Version == created {
			return in, nil
		}
	}
	return Installation{}, &VersionError{Folder: root, Created: created, Installed: all}
}

// createdBy returns the major version of PostgreSQL that created the cluster in root, or 0 if there is none.
func createdBy(root string) (int, error) {
	path := filepath.Join(root, "data", "PG_VERSION")
	raw, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read the version of the private database: %w", err)
	}
	version, err := strconv.Atoi(strings.TrimSpace(string(raw)))
	if err != nil || version <= 0 {
		return 0, fmt.Errorf("read the version of the private database: %s holds %.20q, and no version: put it back "+
			"from a backup, or use a fresh folder (--data-dir DIR)", path, raw)
	}
	return version, nil
}

// VersionError means that no installed PostgreSQL can open a private database, because another major version created
// it.
type VersionError struct {
	Folder    string
	Created   int            // the major version that created it
	Installed []Installation // those with pgvector
}

// Is reports it as ErrNotInstalled, which it is a kind of.
func (e *VersionError) Is(target error) bool { return target == ErrNotInstalled }

func (e *VersionError) Error() string {
	installed := "none"
	if len(e.Installed) > 0 {
		var names []string
		for _, in := range e.Installed {
			names = append(names, in.String())
		}
		installed = strings.Join(names, ", ")
	}
	return fmt.Sprintf("PostgreSQL %d created the private database in %s, and %[1]d is not installed with pgvector "+
		"(installed: %[3]s): install packages postgresql-%[1]d and postgresql-%[1]d-pgvector (`make setup` brings "+
		"one only where none is installed); or use a fresh folder (--data-dir DIR), into which pg_dump of version "+
		"%[1]d can move the data", e.Created, e.Folder, installed)
}

// installations are those that have pgvector: the machine's, the newest first, then those below partsDir.
func installations(partsDir string) (all []Installation) {
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
	seen := map[string]bool{}
	for _, bins := range [][]string{system, private} {
		var found []Installation
		for _, bin := range bins {
			if seen[bin] {
				continue
			}
			seen[bin] = true
			if in, ok := inspect(bin); ok {
				found = append(found, in)
			}
		}
		sort.SliceStable(found, func(i, j int) bool { return found[i].Version > found[j].Version })
		all = append(all, found...)
	}
	return all
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

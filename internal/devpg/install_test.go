package devpg

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// fake writes an installation that names its version and has pgvector, and otherwise does nothing.
func fake(t *testing.T, partsDir string, version int) (bin string) {
	t.Helper()
	root := filepath.Join(partsDir, "postgresql", fmt.Sprint(version))
	bin = filepath.Join(root, "bin")
	for _, dir := range []string{bin, filepath.Join(root, "share", "extension")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for path, text := range map[string]string{
		filepath.Join(bin, "postgres"): fmt.Sprintf("#!/bin/sh\necho 'postgres (PostgreSQL) %d.1'\n", version),
		filepath.Join(bin, "initdb"):   "#!/bin/sh\nexit 1\n",
		filepath.Join(bin, "pg_config"): fmt.Sprintf("#!/bin/sh\n[ \"$1\" = --bindir ] && echo %s || echo %s\n", bin,
			filepath.Join(root, "share")),
		filepath.Join(root, "share", "extension", "vector.control"): "\n",
	} {
		if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return bin
}

// folder is a data folder whose cluster a major version created.
func folder(t *testing.T, version string) string {
	t.Helper()
	dir := passable(t)
	if err := os.MkdirAll(filepath.Join(dir, "pg", "data"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "pg", "data", "PG_VERSION"), []byte(version), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// passable is a folder that another user can pass through.
func passable(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, p := range []string{filepath.Dir(dir), dir} {
		if err := os.Chmod(p, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestTheInstallationIsThatOfTheVersionThatCreatedTheFolder(t *testing.T) {
	parts := passable(t)
	old := fake(t, parts, 97)
	fake(t, parts, 98)
	in, err := FindFor(parts, folder(t, "97\n"))
	if err != nil || in.Version != 97 || in.Bin != old {
		t.Errorf("version 97 created the folder, and it is opened with %v, %v", in, err)
	}
	// Without a folder it is what Find says.
	want, err := Find(parts)
	if err != nil {
		t.Fatal(err)
	}
	if in, err := FindFor(parts, filepath.Join(passable(t), "new")); err != nil || in != want {
		t.Errorf("a new folder is opened with %v, not %v: %v", in, want, err)
	}
	if _, err := FindFor(parts, folder(t, "seven\n")); err == nil || !strings.Contains(err.Error(), "--data-dir") {
		t.Errorf("no version: %v", err)
	}
}

func TestAMissingVersionIsNamedWithWhatToDo(t *testing.T) {
	parts := passable(t)
	bin := fake(t, parts, 98)
	dir := folder(t, "96\n")
	_, err := FindFor(parts, dir)
	var gone *VersionError
	if !errors.As(err, &gone) || !errors.Is(err, ErrNotInstalled) || gone.Created != 96 {
		t.Fatalf("%v", err)
	}
	for _, part := range []string{"PostgreSQL 96 created the private database in " + filepath.Join(dir, "pg"),
		"PostgreSQL 98 in " + bin, "make setup", "postgresql-96-pgvector", "--data-dir", "pg_dump"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("it does not say %q: %v", part, err)
		}
	}
	if got := (&VersionError{Created: 96}).Error(); !strings.Contains(got, "installed: none") {
		t.Error(got)
	}
}

// TestAnotherInstallationDoesNotTakeOverTheFolder creates a real cluster, then has the machine prefer another version.
func TestAnotherInstallationDoesNotTakeOverTheFolder(t *testing.T) {
	real, err := Find(AssetsDir())
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(passable(t), "data")
	c, err := Start(t.Context(), real, dir)
	if err != nil {
		t.Fatal(err)
	}
	c.Stop()
	bin := fake(t, passable(t), 99)
	t.Setenv("PATH", bin+string(filepath.ListSeparator)+os.Getenv("PATH"))
	newest, err := Find(AssetsDir())
	if err != nil || newest.Version != 99 {
		t.Fatalf("the machine does not prefer the other one: %v, %v", newest, err)
	}
	var wrong *VersionError
	if _, err := Start(t.Context(), newest, dir); !errors.As(err, &wrong) || wrong.Created != real.Version {
		t.Errorf("the wrong version opens the folder: %v", err)
	}
	in, err := FindFor(AssetsDir(), dir)
	if err != nil || in.Version != real.Version {
		t.Fatalf("%v, %v", in, err)
	}
	if c, err = Start(t.Context(), in, dir); err != nil {
		t.Fatal(err)
	}
	c.Stop()
}

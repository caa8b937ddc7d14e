package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct/blob"
	"github.com/konstruct/konstruct/internal/provision"
)

// initEnv is the env file that init writes. Lines that are not its own stay as they are.
type initEnv struct {
	path    string
	existed bool
	changed bool
	lines   []string
	values  map[string]string
}

// openInitEnv reads the env file where there is one.
func openInitEnv(path string) (*initEnv, error) {
	e := &initEnv{path: path, values: map[string]string{}}
	raw, err := readPrivateFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return e, nil
	}
	if err != nil {
		return nil, coded{fmt.Errorf("env file: %w", err), exitUsage}
	}
	e.existed = len(raw) > 0
	for line := range strings.Lines(string(raw)) {
		line = strings.TrimRight(line, "\r\n")
		e.lines = append(e.lines, line)
		if key, value, ok := assignment(line); ok {
			e.values[key] = value
		}
	}
	return e, nil
}

// assignment reads a KONSTRUCT_…=value line as parseSettings does.
func assignment(line string) (key, value string, ok bool) {
	line = strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(line), "export "))
	if key, value, ok = strings.Cut(line, "="); !ok || strings.HasPrefix(line, "#") {
		return "", "", false
	}
	return strings.TrimSpace(key), strings.Trim(strings.TrimSpace(value), `"'`), true
}

// set changes one setting, in its line where it has one.
func (e *initEnv) set(key, value string) {
	if old, ok := e.values[key]; ok && old == value {
		return
	}
	e.values[key], e.changed = value, true
	line := key + "=" + value
	i := slices.IndexFunc(e.lines, func(l string) bool { k, _, ok := assignment(l); return ok && k == key })
	if i < 0 {
		e.lines = append(e.lines, line)
		return
	}
	e.lines[i] = line
}

// url is the URL of a role as the file has it: a line of its own, or the base with the role's password. It is empty
// where the file has no password of the role.
func (e *initEnv) url(role string) string {
	setting := roleSettings()[role]
	base, own, password := e.values[appSetting], e.values[setting], e.values[passwordSetting(setting)]
	switch {
	case own != "" && (role != appRole || baseNamesUser(own)):
		return own
	case base == "" || password == "":
		return ""
	}
	return asRole(base, role, password)
}

// setURL notes the URL of a role: in its own line where it has one, as older files do, and else as the role's
// password beside the one base.
func (e *initEnv) setURL(role, raw string) {
	setting := roleSettings()[role]
	base, password := baseOf(raw)
	old := e.values[appSetting]
	if old == "" || role == appRole && !baseNamesUser(old) {
		e.set(appSetting, base)
		old = base
	}
	if old == base && (role == appRole || e.values[setting] == "") {
		e.set(passwordSetting(setting), password)
		return
	}
	e.set(setting, raw)
}

// baseNamesUser reports whether the base of an env file says as whom to connect, whatever the environment does.
func baseNamesUser(base string) bool {
	u, ok := parseURL(base)
	return !ok || u.User.Username() != ""
}

const envHead = "# Written by konstruct init. It holds passwords: keep it yours alone (chmod 600), " +
	"and give each machine the lines that it needs."

var envMark = regexp.MustCompile(`^# (?:cluster (\d+), )?database (\S+)$`)

// mark notes which database of which cluster the file is of.
func (e *initEnv) mark(cluster, database string) {
	line := "# database " + database
	if cluster != "" {
		line = "# cluster " + cluster + ", database " + database
	}
	i := slices.IndexFunc(e.lines, envMark.MatchString)
	switch {
	case i < 0:
		e.lines = slices.Insert(e.lines, 0, envHead, line)
	case e.lines[i] == line || cluster == "":
		return
	default:
		e.lines[i] = line
	}
	e.changed = true
}

// write replaces the file at once, where anything has changed.
func (e *initEnv) write() error {
	if !e.changed {
		return nil
	}
	tmp, err := os.CreateTemp(filepath.Dir(e.path), ".konstruct-env-*") // mode 0600
	if err != nil {
		return fmt.Errorf("write env file %s: %w", e.path, err)
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.WriteString(strings.Join(e.lines, "\n") + "\n")
	if err == nil {
		err = tmp.Sync()
	}
	if err = errors.Join(err, tmp.Close()); err == nil {
		err = os.Rename(tmp.Name(), e.path)
	}
	if err == nil {
		err = blob.SyncDir(filepath.Dir(e.path))
	}
	if err != nil {
		return fmt.Errorf("write env file %s: %w", e.path, err)
	}
	e.changed = false
	return nil
}

// belongs fails where the file is of another cluster or database: its passwords would be lost.
func (e *initEnv) belongs(ctx context.Context, t provision.Target, cluster string) error {
	other := func(what string) error {
		return coded{
			fmt.Errorf("env file %s is of %s, and this is %s: nothing was changed; name another file by --env-file",
				e.path, what, strings.TrimSuffix("cluster "+cluster+", "+t.String(), ", ")), exitUsage}
	}
	if i := slices.IndexFunc(e.lines, envMark.MatchString); i >= 0 {
		m := envMark.FindStringSubmatch(e.lines[i])
		if m[2] != t.Database || m[1] != "" && cluster != "" && m[1] != cluster {
			return other(strings.TrimPrefix(e.lines[i], "# "))
		}
		if m[1] != "" && cluster != "" {
			return nil
		}
	}
	for role, setting := range roleSettings() {
		raw := cmp.Or(e.url(role), e.values[setting])
		u, err := url.Parse(raw)
		if raw == "" || err == nil && u.Host == t.Host && u.Path == "/"+t.Database {
			continue
		}
		if at, database, err := whereIs(ctx, raw); cluster != "" && err == nil && at == cluster &&
			database == t.Database {
			continue // by another address
		}
		return other(mask(raw))
	}
	return nil
}

// whereIs asks a database which cluster it is in.
func whereIs(ctx context.Context, raw string) (cluster, database string, err error) {
	conn, err := pgx.Connect(ctx, raw)
	if err != nil {
		return "", "", err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	err = conn.QueryRow(ctx, `SELECT system_identifier::text, current_database()::text FROM pg_control_system()`).
		Scan(&cluster, &database)
	return cluster, database, err
}

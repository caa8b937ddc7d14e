package main

import (
	"bufio"
	"bytes"
	"cmp"
	"fmt"
	"net/url"
	"os"
	"runtime/debug"
	"sort"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/konstruct/konstruct/internal/provision"
)

// otherVariables are environment variables that are read elsewhere, and so no mistake.
var otherVariables = map[string]bool{"KONSTRUCT_ONNXRUNTIME": true, "KONSTRUCT_TENANT": true, "KONSTRUCT_AGENT": true,
	"KONSTRUCT_SETUP_POSTGRES": true, "KONSTRUCT_KEY": true, "KONSTRUCT_URL": true,
	"KONSTRUCT_KEY_FILE": true, "KONSTRUCT_CAPTURE_DIR": true, "KONSTRUCT_TOOL_RULES_FILE": true,
	"KONSTRUCT_USER": true}

// configure reads the environment and the file, and has the parser fall back to the file.
func (a *app) configure(parser *kong.Kong, args []string) error {
	known := map[string]bool{}
	for _, f := range a.settingFlags {
		for _, env := range f.Envs {
			known[env] = true
		}
	}
	for _, kv := range os.Environ() {
		if key, _, _ := strings.Cut(kv, "="); strings.HasPrefix(key, "KONSTRUCT_") && !known[key] &&
			!otherVariables[key] {
			return fmt.Errorf("environment: %s is no setting: %s", key, nearest(key, known))
		}
	}
	path := namedFile(args, "--config", "KONSTRUCT_CONFIG")
	values := map[string]string{}
	if path != "" {
		var err error
		if values, err = readFile(path, known); err != nil {
			return err
		}
	}
	a.sources = map[string]string{}
	for key := range values {
		a.sources[key] = path
	}
	env, from, err := readEnvFile(args, path != "", known)
	a.envErr = err
	for key, value := range env {
		if _, ok := values[key]; !ok { // --config is stronger
			values[key], a.sources[key], a.envFile = value, from, from
		}
	}
	resolver := kong.ResolverFunc(func(_ *kong.Context, _ *kong.Path, f *kong.Flag) (any, error) {
		for _, env := range f.Envs {
			if _, set := os.LookupEnv(env); set {
				return nil, nil // the environment is stronger than the file
			}
			if v, ok := values[env]; ok {
				return v, nil
			}
		}
		return nil, nil
	})
	return kong.Resolvers(resolver).Apply(parser)
}

// maxConfig is how many bytes a configuration file may have.
const maxConfig = 1 << 20

func readFile(path string, known map[string]bool) (map[string]string, error) {
	raw, err := readSmallFile(path, maxConfig)
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	return parseSettings(path, raw, known)
}

// parseSettings reads KONSTRUCT_…=value lines.
func parseSettings(path string, raw []byte, known map[string]bool) (map[string]string, error) {
	values := map[string]string{}
	lines := bufio.NewScanner(bytes.NewReader(raw))
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(lines.Text()), "export "))
		if line == "" || line[0] == '#' {
			continue
		}
		key, value, ok := strings.Cut(line, "=")
		if key = strings.TrimSpace(key); !ok {
			return nil, fmt.Errorf("configuration: %s:%d is no KONSTRUCT_…=value", path, n)
		}
		if !known[key] && !otherVariables[key] || key == "KONSTRUCT_CONFIG" || key == "KONSTRUCT_ENV_FILE" {
			return nil, fmt.Errorf("configuration: %s:%d: %s is no setting: %s", path, n, key, nearest(key, known))
		}
		values[key] = strings.Trim(strings.TrimSpace(value), `"'`)
	}
	return values, lines.Err()
}

// nearest helps with a mistyped name.
func nearest(key string, known map[string]bool) string {
	var names []string
	for k := range known {
		names = append(names, k)
	}
	sort.Strings(names)
	best, score := "", 0
	for _, n := range names {
		same := 0
		for same < min(len(n), len(key)) && n[same] == key[same] {
			same++
		}
		for i := 1; i <= min(len(n), len(key)) && n[len(n)-i] == key[len(key)-i]; i++ {
			same++
		}
		if same > score {
			best, score = n, same
		}
	}
	return "did you mean " + best + "?"
}

// noteSources notes where each setting's value came from.
func (a *app) noteSources(k *kong.Context) {
	for _, p := range k.Path {
		if p.Flag != nil && !p.Resolved && len(p.Flag.Envs) > 0 {
			a.sources[p.Flag.Envs[0]] = "--" + p.Flag.Name
		}
	}
	for _, f := range a.settingFlags {
		from := a.sources[f.Envs[0]]
		for _, env := range f.Envs {
			if _, set := os.LookupEnv(env); set && !strings.HasPrefix(from, "--") {
				from = "environment"
			} else if from == "" {
				from = a.sources[env]
			}
		}
		a.sources[f.Envs[0]] = cmp.Or(from, "default")
	}
}

type configCmd struct{}

// Run prints each setting, secrets masked.
func (configCmd) Run(a *app) error {
	type line struct {
		Name  string `json:"name"`
		Value string `json:"value"`
		From  string `json:"from"`
	}
	var lines []line
	for _, f := range a.settingFlags {
		lines = append(lines, line{f.Envs[0], shown(f), a.sources[f.Envs[0]]})
	}
	return printTable(a, lines, []string{"NAME", "VALUE", "FROM"}, func(l line) []string {
		return []string{l.Name, l.Value, l.From}
	})
}

// shown is a setting's value without its secrets.
func shown(f *kong.Flag) string {
	value := fmt.Sprint(f.Target.Interface())
	secret := strings.HasSuffix(f.Name, "-key") && f.Name != "tls-key" || strings.HasSuffix(f.Name, "-password")
	if value != "" && secret {
		return "…"
	}
	return mask(value)
}

// mask hides the password of a URL, also where it is given as a parameter or in a connection string.
func mask(value string) string {
	u, err := url.Parse(value)
	if err != nil || u.Scheme == "" {
		if i := strings.Index(strings.ToLower(value), "password"); i >= 0 {
			return value[:i] + "password=…"
		}
		return value
	}
	q := u.Query()
	for key := range q {
		if strings.Contains(strings.ToLower(key), "password") {
			q.Set(key, "…")
		}
	}
	u.RawQuery = provision.Query(q)
	return strings.Replace(u.Redacted(), "xxxxx", "…", 1)
}

// nextRelease is the version that a build from a checkout will become.
const nextRelease = "0.1.0"

// version is what the binary was built from.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "konstruct (unknown build)"
	}
	rev := ""
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			rev = " " + s.Value[:min(12, len(s.Value))] + rev
		case "vcs.modified":
			if s.Value == "true" {
				rev += " with changes"
			}
		}
	}
	v := info.Main.Version
	if v == "" || v == "(devel)" {
		v = nextRelease + "-dev"
	}
	return "konstruct " + v + rev + " " + info.GoVersion
}

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/konstruct/konstruct/blob"
	"github.com/konstruct/konstruct/strictjson"
)

type mcpInstallCmd struct {
	mcpFlags
	Client string `arg:"" enum:"${mcpClients}" help:"One of ${mcpClientNames}."`
	Name   string `help:"What the client calls the server." default:"konstruct" placeholder:"NAME"`
	HTTP   bool   `name:"http" help:"Have the client speak HTTP with the service, where it can."`
	Write  bool   `help:"Merge it into the client's file, whose old content is kept beside it."`
}

// Help is shown by --help.
func (mcpInstallCmd) Help() string {
	return "Prints what to write, and to which file. No key is in it: the client reads a file or the environment.\n\n" +
		"Examples:\n\n" +
		"  konstruct mcp install claude-code --url http://127.0.0.1:7117 --key-file k\n" +
		"  konstruct mcp install vscode --url https://audit.example.com --http\n" +
		"  konstruct mcp install claude-desktop --tenant $T --write"
}

// mcpClient is where a program has its MCP servers, and in which form.
type mcpClient struct {
	name string
	file func(home string) string
	key  string // of the servers in the file
	// http returns the entry of a server that is reached over HTTP; nil: the program reaches none that has a key.
	http func(url string) map[string]any
	toml bool
}

// keyVariable is the variable from which clients read the key for HTTP.
const keyVariable = "KONSTRUCT_KEY"

// mcpClients are the programs that install knows.
func mcpClients() []mcpClient {
	under := func(parts ...string) func(string) string {
		return func(home string) string { return filepath.Join(append([]string{home}, parts...)...) }
	}
	header := func(urlName, variable string, more ...string) func(string) map[string]any {
		return func(url string) map[string]any {
			m := map[string]any{urlName: url, "headers": map[string]string{"Authorization": "Bearer " + variable}}
			if len(more) > 0 {
				m["type"] = more[0]
			}
			return m
		}
	}
	return []mcpClient{
		{name: "claude-code", file: under(".claude.json"), key: "mcpServers",
			http: header("url", "${"+keyVariable+"}", "http")},
		{name: "claude-desktop", file: claudeDesktopFile, key: "mcpServers"},
		{name: "codex", file: under(".codex", "config.toml"), key: "mcp_servers", toml: true,
			http: func(url string) map[string]any {
				return map[string]any{"url": url, "bearer_token_env_var": keyVariable}
			}},
		{name: "cursor", file: under(".cursor", "mcp.json"), key: "mcpServers",
			http: header("url", "${env:"+keyVariable+"}")},
		{name: "gemini-cli", file: under(".gemini", "settings.json"), key: "mcpServers",
			http: header("httpUrl", "${"+keyVariable+"}")},
		{name: "vscode", file: func(string) string { return filepath.Join(".vscode", "mcp.json") }, key: "servers",
			http: header("url", "${env:"+keyVariable+"}", "http")},
		{name: "windsurf", file: under(".codeium", "windsurf", "mcp_config.json"), key: "mcpServers",
			http: header("serverUrl", "${env:"+keyVariable+"}")},
		{name: "zed", file: under(".config", "zed", "settings.json"), key: "context_servers"},
	}
}

// mcpClientNames are the names of the programs, separated by commas.
func mcpClientNames() string {
	var names []string
	for _, c := range mcpClients() {
		names = append(names, c.name)
	}
	return strings.Join(names, ",")
}

// claudeDesktopFile is where Claude Desktop has its settings.
func claudeDesktopFile(home string) string {
	const name = "claude_desktop_config.json"
	switch runtime.GOOS {
	case "darwin":
		return filepath.Join(home, "Library", "Application Support", "Claude", name)
	case "windows":
		return filepath.Join(home, "AppData", "Roaming", "Claude", name)
	}
	return filepath.Join(home, ".config", "Claude", name)
}

// serverName matches what every client takes as a server's name.
var serverName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

// Run prints a client's configuration, or merges it into its file.
func (c mcpInstallCmd) Run(ctx context.Context, a *app) error {
	i := slices.IndexFunc(mcpClients(), func(m mcpClient) bool { return m.name == c.Client })
	client := mcpClients()[i]
	if !serverName.MatchString(c.Name) {
		return coded{fmt.Errorf("--name: %.80q: it is 1 to 64 letters, digits, - and _", c.Name), exitUsage}
	}
	entry, err := c.entry(a, client)
	if err != nil {
		return err
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return fmt.Errorf("find the client's file: %w", err)
	}
	path := client.file(home)
	if c.Write {
		if client.toml {
			return coded{fmt.Errorf("%s has comments that would be lost: append what this prints without --write",
				path),
				exitUsage}
		}
		return c.merge(ctx, a, client, path, entry)
	}
	fmt.Fprintf(a.err, "Merge this into %s:\n", path)
	if client.toml {
		_, err := fmt.Fprint(a.out, tomlTable(client.key+"."+c.Name, entry))
		return err
	}
	return a.json(map[string]any{client.key: map[string]any{c.Name: entry}})
}

// entry returns what the client is told of the server.
func (c mcpInstallCmd) entry(a *app, client mcpClient) (map[string]any, error) {
	if c.HTTP {
		if client.http == nil {
			return nil, coded{fmt.Errorf("%s sends no key over HTTP: leave --http out, and it starts konstruct mcp",
				client.name), exitUsage}
		}
		at, err := c.service()
		if err != nil {
			return nil, err
		}
		return client.http(at.JoinPath("mcp").String()), nil
	}
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	env := map[string]string{}
	switch {
	case c.URL != "":
		if _, err := c.service(); err != nil {
			return nil, err
		}
		if c.KeyFile == "" {
			return nil, coded{errors.New("the service needs a key: write one to a file of your own, and name it " +
				"(--key-file)"), exitUsage}
		}
		file, err := filepath.Abs(c.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("find the key's file: %w", err)
		}
		env["KONSTRUCT_URL"], env["KONSTRUCT_KEY_FILE"] = c.URL, file
	case c.Tenant != uuid.Nil:
		env["KONSTRUCT_TENANT"] = c.Tenant.String()
		if err := a.describeDatabase(env); err != nil {
			return nil, err
		}
	default:
		return nil, coded{errors.New("nothing to serve: give a service (--url), or a tenant of a database (--tenant)"),
			exitUsage}
	}
	if c.Agent != uuid.Nil {
		env["KONSTRUCT_AGENT"] = c.Agent.String()
	}
	if c.User != "" {
		env["KONSTRUCT_USER"] = c.User
	}
	return map[string]any{"command": self, "args": []string{"mcp"}, "env": env}, nil
}

// describeDatabase adds to an environment where the database is, which the client's folder does not say.
func (a *app) describeDatabase(env map[string]string) error {
	name, value := "KONSTRUCT_DATA_DIR", a.DataDir
	switch {
	case a.envFile != "":
		name, value = "KONSTRUCT_ENV_FILE", a.envFile
	case a.DatabaseURL != "":
		fmt.Fprintln(a.err,
			"konstruct: the client needs KONSTRUCT_DATABASE_URL in its environment: it is not printed, "+
				"because it may have a password")
		return nil
	}
	abs, err := filepath.Abs(value)
	if err != nil {
		return fmt.Errorf("find the database's settings: %w", err)
	}
	env[name] = abs
	return nil
}

// maxClientFile is the largest file of a client that is merged, in bytes.
const maxClientFile = 16 << 20

// merge writes the entry into the client's file, and keeps what was there beside it.
func (c mcpInstallCmd) merge(ctx context.Context, a *app, client mcpClient, path string, entry map[string]any) error {
	before, err := readSmallFile(path, maxClientFile)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read the client's file: %w", err)
	}
	merged, err := mergeServer(before, client.key, c.Name, entry)
	if err != nil {
		return coded{fmt.Errorf("%s: %w: write what this prints without --write there yourself", path, err), exitUsage}
	}
	if real, err := filepath.EvalSymlinks(path); err == nil { // who keeps settings elsewhere keeps them there
		path = real
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("make the client's folder: %w", err)
	}
	folder, name := blob.Folder(filepath.Dir(path)), filepath.Base(path)
	if before != nil {
		if err := folder.Write(ctx, name+".before-konstruct", before); err != nil {
			return fmt.Errorf("keep the client's file: %w", err)
		}
	}
	if err := folder.Write(ctx, name, merged); err != nil {
		return fmt.Errorf("write the client's file: %w", err)
	}
	fmt.Fprintf(a.err, "konstruct: %s has the server %q: start the client again\n", path, c.Name)
	return nil
}

// mergeServer puts a server into a client's JSON, whose other members stay as they are written.
func mergeServer(before []byte, key, name string, entry map[string]any) ([]byte, error) {
	if len(bytes.TrimSpace(before)) == 0 {
		before = []byte("{}")
	}
	var all, servers map[string]json.RawMessage
	if err := strictjson.CheckDuplicates(before); err != nil || json.Unmarshal(before, &all) != nil || all == nil {
		return nil, errors.New("it is no JSON object that can be merged (comments, or a name that stands twice)")
	}
	if raw := all[key]; raw != nil && json.Unmarshal(raw, &servers) != nil {
		return nil, fmt.Errorf("its %s is no object", key)
	}
	if servers == nil {
		servers = map[string]json.RawMessage{}
	}
	raw, err := strictjson.Marshal(entry)
	if err != nil {
		return nil, err
	}
	servers[name] = raw
	if all[key], err = strictjson.Marshal(servers); err != nil {
		return nil, err
	}
	if raw, err = strictjson.Marshal(all); err != nil {
		return nil, err
	}
	var out bytes.Buffer
	if err := json.Indent(&out, raw, "", "  "); err != nil {
		return nil, err
	}
	out.WriteByte('\n')
	return out.Bytes(), nil
}

// tomlTable returns a table of texts, lists of texts, and one table of texts below it. A JSON text is a TOML one.
func tomlTable(name string, entry map[string]any) string {
	var b, below strings.Builder
	quote := func(v any) string {
		raw, err := strictjson.Marshal(v)
		if err != nil {
			return `""`
		}
		return string(raw)
	}
	fmt.Fprintf(&b, "[%s]\n", name)
	for _, key := range slices.Sorted(maps.Keys(entry)) {
		if table, is := entry[key].(map[string]string); is {
			fmt.Fprintf(&below, "\n[%s.%s]\n", name, key)
			for _, k := range slices.Sorted(maps.Keys(table)) {
				fmt.Fprintf(&below, "%s = %s\n", k, quote(table[k]))
			}
			continue
		}
		fmt.Fprintf(&b, "%s = %s\n", key, quote(entry[key]))
	}
	return b.String() + below.String()
}

package mcpproxy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/google/uuid"
	"golang.org/x/net/http/httpguts"

	"github.com/konstruct/konstruct/strictjson"
)

// Limits on a file of servers.
const (
	MaxServersFile = 1 << 20 // bytes
	maxServers     = 200
	maxHeaders     = 50
	maxSecret      = 16 << 10 // bytes of a header's value
)

// Upstream is a streamable HTTP server that the operator has configured.
type Upstream struct {
	Name    string
	URL     *url.URL
	Tenants []uuid.UUID // that may use it; empty: all
	// Spooled: a result passes once its record is in the service's spool, not on the trail.
	Spooled bool
	headers map[string]headerValue
}

// headerValue is a header's value, or the file that has it.
type headerValue struct {
	text, file, prefix string
}

var serverName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

// ownHeaders are the headers that the proxy sets or passes itself.
var ownHeaders = []string{"Accept", "Content-Length", "Content-Type", "Host", "Connection", "Transfer-Encoding",
	"Mcp-Session-Id", "Mcp-Protocol-Version", "Mcp-Method", "Mcp-Name", "Last-Event-Id"}

// ParseServers reads a file of servers:
//
//	{"servers": [{"name": "github", "url": "https://…/mcp", "tenants": ["…"], "record": "trail",
//	  "headers": {"Authorization": {"file": "github.token", "prefix": "Bearer "}, "X-Plain": "text"}}]}
//
// Files of headers are relative to dir, and are read for each request, so that a secret can be replaced. An error names
// the place in the file.
func ParseServers(raw []byte, dir string) (map[string]*Upstream, error) {
	if len(raw) > MaxServersFile {
		return nil, fmt.Errorf("MCP servers: %d bytes long, the limit is %d", len(raw), MaxServersFile)
	}
	if err := strictjson.CheckDuplicates(raw); err != nil {
		return nil, fmt.Errorf("MCP servers: %w", err)
	}
	var file struct {
		Servers []struct {
			Name    string                     `json:"name"`
			URL     string                     `json:"url"`
			Tenants []uuid.UUID                `json:"tenants"`
			Record  string                     `json:"record"`
			Headers map[string]json.RawMessage `json:"headers"`
		} `json:"servers"`
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(&file); err != nil {
		return nil, fmt.Errorf("MCP servers: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("MCP servers: there is data after the JSON object")
	}
	if len(file.Servers) > maxServers {
		return nil, fmt.Errorf("MCP servers: %d servers, the limit is %d", len(file.Servers), maxServers)
	}
	all := map[string]*Upstream{}
	for i, s := range file.Servers {
		at := fmt.Sprintf("MCP servers: servers[%d]", i)
		u, err := url.Parse(s.URL)
		switch {
		case !serverName.MatchString(s.Name):
			return nil, fmt.Errorf(
				"%s.name: %.80q is not 1 to 64 letters, digits, dots, hyphens and underscores",
				at,
				s.Name,
			)
		case all[s.Name] != nil:
			return nil, fmt.Errorf("%s.name: %q is another server's already", at, s.Name)
		case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil ||
			u.Fragment != "":
			return nil, fmt.Errorf("%s.url: it is no http or https URL without a user and a fragment", at)
		case s.Record != "" && s.Record != "trail" && s.Record != "spool":
			return nil, fmt.Errorf(`%s.record: %.40q is neither "trail" nor "spool"`, at, s.Record)
		case len(s.Headers) > maxHeaders:
			return nil, fmt.Errorf("%s.headers: %d headers, the limit is %d", at, len(s.Headers), maxHeaders)
		}
		up := &Upstream{
			Name:    s.Name,
			URL:     u,
			Tenants: s.Tenants,
			Spooled: s.Record == "spool",
			headers: map[string]headerValue{},
		}
		for name, value := range s.Headers {
			v, err := parseHeader(name, value, dir)
			if err != nil {
				return nil, fmt.Errorf("%s.headers.%.80s: %w", at, name, err)
			}
			up.headers[http.CanonicalHeaderKey(name)] = v
		}
		if _, err := up.header(); err != nil {
			return nil, fmt.Errorf("%s.%w", at, err)
		}
		all[s.Name] = up
	}
	return all, nil
}

func parseHeader(name string, raw []byte, dir string) (v headerValue, err error) {
	if !httpguts.ValidHeaderFieldName(name) || slices.Contains(ownHeaders, http.CanonicalHeaderKey(name)) {
		return v, errors.New("it is no header's name, or a header that the proxy sets itself")
	}
	if text, ok := text(raw); ok {
		v.text = text
		return v, nil
	}
	var from struct {
		File   string `json:"file"`
		Prefix string `json:"prefix"`
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(&from); err != nil || from.File == "" {
		return v, errors.New(`it is neither a text nor {"file": "…", "prefix": "…"}`)
	}
	if v.file, v.prefix = from.File, from.Prefix; !filepath.IsAbs(v.file) {
		v.file = filepath.Join(dir, v.file)
	}
	return v, nil
}

// header returns the headers that the server gets, with secrets as their files have them now.
func (u *Upstream) header() (http.Header, error) {
	h := http.Header{}
	for name, v := range u.headers {
		value := v.text
		if v.file != "" {
			raw, err := readSecret(v.file)
			if err != nil {
				return nil, fmt.Errorf("headers.%s: %w", name, err)
			}
			value = v.prefix + raw
		}
		if !httpguts.ValidHeaderFieldValue(value) {
			return nil, fmt.Errorf("headers.%s: its value has control characters", name)
		}
		h.Set(name, value)
	}
	return h, nil
}

func readSecret(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxSecret+1))
	switch {
	case err != nil:
		return "", err
	case len(raw) > maxSecret:
		return "", fmt.Errorf("%s has more than %d bytes", path, maxSecret)
	}
	return strings.TrimSpace(string(raw)), nil
}

// Serves reports whether a tenant may use the server.
func (u *Upstream) Serves(tenant uuid.UUID) bool {
	return len(u.Tenants) == 0 || slices.Contains(u.Tenants, tenant)
}

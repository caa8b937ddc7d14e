package provision

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"regexp"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
)

// DefaultPort is PostgreSQL's port.
const DefaultPort = "5432"

// ErrURL means that a connection URL or an address is not valid.
var ErrURL = errors.New("wrong connection URL")

// Target is the server and database to which roles connect.
type Target struct {
	Host     string // host:port, several separated by commas, or a socket's folder
	Port     string // of a socket
	Database string
	Params   url.Values // TLS and the like
}

// carried are the parameters of the administrator's URL that apply to every role. The administrator's password and
// certificate do not.
var carried = regexp.MustCompile(
	`^(sslmode|sslrootcert|sslnegotiation|sslsni|channel_binding|connect_timeout|target_session_attrs)$`)

var keyword = regexp.MustCompile(`(\w+)\s*=\s*('(?:[^'\\]|\\.)*'|\S+)`)

// NewTarget returns the target from the administrator's URL, or from address: HOST, HOST:PORT or a socket's folder.
func NewTarget(adminURL, address, database string) (Target, error) {
	t := Target{Database: database, Params: url.Values{}}
	for _, name := range []string{"sslmode", "sslrootcert"} {
		if v := os.Getenv("PG" + strings.ToUpper(name)); v != "" {
			t.Params.Set(name, v)
		}
	}
	config, err := pgx.ParseConfig(adminURL)
	if err != nil {
		return t, fmt.Errorf("%w: the superuser's: %w", ErrURL, err) // pgx hides the password
	}
	t.setAddress(config.Host, strconv.Itoa(int(config.Port)))
	if u, err := url.Parse(adminURL); err == nil && strings.HasPrefix(u.Scheme, "postgres") {
		for name, v := range u.Query() {
			if carried.MatchString(name) {
				t.Params[name] = v
			}
		}
		if strings.Contains(u.Host, ",") {
			t.Host = u.Host
		}
	} else {
		for _, m := range keyword.FindAllStringSubmatch(adminURL, -1) {
			if carried.MatchString(m[1]) {
				t.Params.Set(m[1], strings.Trim(m[2], "'"))
			}
		}
	}
	return t, t.SetAddress(address)
}

// SetAddress changes the address: HOST, HOST:PORT or a socket's folder. An empty one changes nothing.
func (t *Target) SetAddress(address string) error {
	if address == "" {
		return nil
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil { // no port
		host, port = strings.Trim(address, "[]"), DefaultPort
	}
	if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 || host == "" ||
		strings.ContainsAny(host, "@ ?") {
		return fmt.Errorf("%w: --address %q is not HOST, HOST:PORT or the folder of a socket", ErrURL, address)
	}
	t.setAddress(host, port)
	return nil
}

func (t *Target) setAddress(host, port string) {
	if t.Host, t.Port = net.JoinHostPort(host, port), ""; strings.HasPrefix(host, "/") {
		t.Host, t.Port = host, port
	}
}

// socket reports whether roles connect by a Unix socket.
func (t Target) socket() bool { return strings.HasPrefix(t.Host, "/") }

// URL returns the connection URL of a role.
func (t Target) URL(role, password string) string {
	u := url.URL{Scheme: "postgres", User: url.UserPassword(role, password), Host: t.Host, Path: "/" + t.Database}
	params := url.Values{}
	for name, v := range t.Params {
		params[name] = v
	}
	if t.socket() {
		u.Host = ""
		params.Set("host", t.Host)
		params.Set("port", t.Port)
	}
	u.RawQuery = Query(params)
	return u.String()
}

// Query writes the parameters of a connection URL, in which + stands for itself and not for a space.
func Query(q url.Values) string { return strings.ReplaceAll(q.Encode(), "+", "%20") }

// String names the place for people, without a password.
func (t Target) String() string { return fmt.Sprintf("database %s at %s", t.Database, t.Host) }

// WithDatabase returns the connection URL, or keyword string, for another database of the same server.
func WithDatabase(raw, database string) string {
	if u, err := url.Parse(raw); err == nil && strings.HasPrefix(u.Scheme, "postgres") {
		q := u.Query()
		q.Del("dbname")
		u.Path, u.RawQuery = "/"+database, Query(q)
		return u.String()
	}
	return raw + " dbname='" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(database) + "'"
}

package main

import (
	"cmp"
	"fmt"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct/internal/provision"
	"github.com/konstruct/konstruct/migrations"
)

const (
	appRole    = "konstruct_app"
	appSetting = "KONSTRUCT_DATABASE_URL"
)

// roleSettings says which setting holds the URL of a role.
func roleSettings() map[string]string {
	return map[string]string{
		appRole: appSetting, migrations.Owner: "KONSTRUCT_OWNER_DATABASE_URL",
		"konstruct_notary":     "KONSTRUCT_NOTARY_DATABASE_URL",
		"konstruct_compliance": "KONSTRUCT_COMPLIANCE_DATABASE_URL",
		"konstruct_worker":     "KONSTRUCT_WORKER_DATABASE_URL",
	}
}

// passwordSetting says which setting holds the password of the role that a URL's setting is of.
func passwordSetting(urlSetting string) string {
	if urlSetting == appSetting {
		return "KONSTRUCT_APP_PASSWORD"
	}
	return strings.Replace(urlSetting, "_DATABASE_URL", "_PASSWORD", 1)
}

// roleURL is what the settings say of one role.
type roleURL struct {
	role, setting, password string
	url                     *string
}

func (a *app) roleURLs() []roleURL {
	return []roleURL{
		{appRole, appSetting, a.AppPassword, &a.DatabaseURL},
		{migrations.Owner, "KONSTRUCT_OWNER_DATABASE_URL", a.OwnerPassword, &a.OwnerDatabaseURL},
		{"konstruct_notary", "KONSTRUCT_NOTARY_DATABASE_URL", a.NotaryPassword, &a.NotaryDatabaseURL},
		{"konstruct_compliance", "KONSTRUCT_COMPLIANCE_DATABASE_URL", a.CompliancePassword, &a.ComplianceDatabaseURL},
		{"konstruct_worker", "KONSTRUCT_WORKER_DATABASE_URL", a.WorkerPassword, &a.WorkerDatabaseURL},
	}
}

// deriveURLs makes the URLs of roles that are not set from KONSTRUCT_DATABASE_URL, the base: its server, database and
// parameters, with the role's own name and password. A user in the base is the application's alone; no role is ever
// reached as another.
func (a *app) deriveURLs() {
	for _, r := range a.roleURLs() {
		*r.url = withSocket(*r.url)
	}
	a.SuperuserDatabaseURL = withSocket(a.SuperuserDatabaseURL)
	base, roles := a.DatabaseURL, a.roleURLs()
	if _, err := pgx.ParseConfig(base); base == "" || err != nil {
		return // the connection's error says what is wrong with it
	}
	from := "derived from " + appSetting + " (" + a.sources[appSetting] + ")"
	passwords := slices.ContainsFunc(roles, func(r roleURL) bool { return r.password != "" })
	for _, r := range roles {
		if r.role != appRole && a.sources[r.setting] != "default" || r.role == appRole && namesUser(base) {
			continue // it is set, perhaps to nothing
		}
		login := a.loginOf(r, base, passwords)
		if login == "" && r.role != appRole {
			a.sources[r.setting] = "not derived: no password of " + r.role + " is known"
			continue
		}
		*r.url = asRole(base, r.role, r.password)
		a.sources[r.setting] = from + " with " + cmp.Or(login, "no password")
	}
}

// loginOf says by what a role can log in at the base, or nothing where no way is known. Without any password set, a
// socket and a client's certificate are ways for every role.
func (a *app) loginOf(r roleURL, base string, passwords bool) string {
	if r.password != "" {
		setting := passwordSetting(r.setting)
		return setting + " (" + a.sources[setting] + ")"
	}
	if namesUser(base) {
		return ""
	}
	config, err := pgx.ParseConfig(asRole(base, r.role, ""))
	if err != nil {
		return ""
	}
	switch {
	case config.Password != "" && os.Getenv("PGPASSWORD") == "": // pgx has read the password file
		return cmp.Or(os.Getenv("PGPASSFILE"), "the password file")
	case !passwords && strings.HasPrefix(config.Host, "/"):
		return "the socket's authentication"
	case !passwords && (strings.Contains(base, "sslcert=") || os.Getenv("PGSSLCERT") != ""):
		return "the client's certificate"
	}
	return ""
}

// keywordValue is the value of a connection string's keyword.
const keywordValue = `\s*=\s*('(?:[^'\\]|\\.)*'|[^\s']\S*)?`

var (
	userKeyword     = regexp.MustCompile(`(^|\s)(user|service)\s*=`)
	nameKeyword     = regexp.MustCompile(`(^|\s)user` + keywordValue)
	passwordKeyword = regexp.MustCompile(`(^|\s)password` + keywordValue)
)

// namesUser reports whether a base says as whom to connect.
func namesUser(base string) bool {
	if os.Getenv("PGUSER") != "" || os.Getenv("PGSERVICE") != "" {
		return true
	}
	u, ok := parseURL(base)
	if !ok {
		return userKeyword.MatchString(base)
	}
	return u.User.Username() != "" || u.Query().Has("user") || u.Query().Has("service")
}

// parseURL parses a connection URL; ok is false for a string of keywords.
func parseURL(raw string) (u *url.URL, ok bool) {
	u, err := url.Parse(raw)
	return u, err == nil && strings.HasPrefix(u.Scheme, "postgres")
}

// asRole is the base with a role's name, and its password where one is given. Another role's password is left out.
func asRole(base, role, password string) string {
	u, ok := parseURL(base)
	if !ok && strings.Contains(base, "://") {
		return base // the connection's error says what is wrong with it
	}
	if !ok {
		if password != "" || role != appRole {
			base = passwordKeyword.ReplaceAllString(base, "")
		}
		base = strings.TrimSpace(nameKeyword.ReplaceAllString(base, "")) + " user=" + role
		if password != "" {
			base += " password='" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(password) + "'"
		}
		return base
	}
	q := u.Query()
	if q.Del("user"); password != "" || role != appRole {
		q.Del("password")
	}
	u.RawQuery = provision.Query(q)
	if u.User = url.User(role); password != "" {
		u.User = url.UserPassword(role, password)
	}
	return u.String()
}

// socketHost is the folder of a socket where libpq lets a URL have it: as its percent-encoded host.
var socketHost = regexp.MustCompile(
	`^(postgres(?:ql)?://(?:[^@/?#]*@)?)(%2[Ff][^:/?#]*)(?::(\d+))?(/[^?#]*)?(?:\?(.*))?$`)

// withSocket moves the folder of a socket from a URL's host, where no URL may have it, into its parameters.
func withSocket(raw string) string {
	m := socketHost.FindStringSubmatch(raw)
	if m == nil {
		return raw
	}
	params := []string{"host=" + m[2]}
	if m[3] != "" {
		params = append(params, "port="+m[3])
	}
	if m[5] != "" {
		params = append(params, m[5])
	}
	return m[1] + cmp.Or(m[4], "/") + "?" + strings.Join(params, "&")
}

// checkURL names what is wrong with a connection URL, before an error shows a part of its password as a host.
func checkURL(setting, raw string) error {
	scheme, rest, ok := strings.Cut(raw, "://")
	if !ok {
		if raw != "" && !strings.Contains(raw, "=") {
			return coded{fmt.Errorf("%s is no connection URL: write it as postgres://USER@HOST:5432/DATABASE", setting),
				exitUsage}
		}
		return nil
	}
	if scheme != "postgres" && scheme != "postgresql" {
		return coded{fmt.Errorf("%s begins with %s://: a connection URL begins with postgres://", setting, scheme),
			exitUsage}
	}
	authority, _, _ := strings.Cut(rest, "?")
	if strings.Count(authority, "@") > 1 {
		return coded{fmt.Errorf("%s has more than one @: write the one in its password as %%40", setting), exitUsage}
	}
	return nil
}

// checkURLs checks every connection URL that is set.
func (a *app) checkURLs() error {
	for _, r := range a.roleURLs() {
		if err := checkURL(r.setting, *r.url); err != nil {
			return err
		}
	}
	return checkURL("KONSTRUCT_SUPERUSER_DATABASE_URL", a.SuperuserDatabaseURL)
}

// baseOf is a role's URL without its name and password, and the password.
func baseOf(raw string) (base, password string) {
	u, ok := parseURL(raw)
	if !ok {
		return "", ""
	}
	password, _ = u.User.Password()
	u.User = nil
	return u.String(), password
}

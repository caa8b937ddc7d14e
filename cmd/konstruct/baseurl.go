package main

import (
	"cmp"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

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
	u.RawQuery = q.Encode()
	if u.User = url.User(role); password != "" {
		u.User = url.UserPassword(role, password)
	}
	return u.String()
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

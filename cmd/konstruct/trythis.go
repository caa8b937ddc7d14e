package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/google/uuid"

	"github.com/konstruct/konstruct/internal/devpg"
)

// tryThis prints what can be done after the demonstration: a command a line, each to be run as it is printed.
func (a *app) tryThis(u databaseURLs, tenant uuid.UUID, question string) {
	program := "konstruct"
	if strings.Contains(os.Args[0], "/") {
		program = shellWord(os.Args[0])
	}
	program += a.commonFlags()
	rows := [][2]string{
		{"the tenant of the commands below", "export KONSTRUCT_TENANT=" + tenant.String()},
		{"search; the search is an event too", program + " kb search " + shellWord(question)},
		{"what the tenant's agents did", program + " audit list --limit 5"},
		{"sign what is new", program + " notary run --once"},
		{"what a stranger verifies with", program + " notary key show > notary.key"},
		{"proof for a stranger, and its check offline", program + " audit evidence -o bundle.zip && " + program +
			" verify bundle.zip --key notary.key"},
	}
	if a.private() {
		rows = append(rows, [2]string{"keep the private database running", program + " dev db > dev.env &"})
	}
	if sql := a.psql(u); sql != "" {
		rows = append(rows, [2]string{"try to delete the trail: it is refused", sql +
			` -c "DELETE FROM audit_events"`})
	}
	fmt.Fprintf(a.out, "\n%s\n", a.bold("Try this:"))
	for _, row := range rows {
		fmt.Fprintf(a.out, "  %-44s %s\n", row[0], row[1])
	}
}

// private reports whether the database is the one in the data folder.
func (a *app) private() bool {
	return a.DatabaseURL == "" && a.OwnerDatabaseURL == "" && a.NotaryDatabaseURL == ""
}

// commonFlags are the settings that were given as flags, but for secrets: a later command needs them too.
func (a *app) commonFlags() (flags string) {
	for _, f := range a.settingFlags {
		value := fmt.Sprint(f.Target.Interface())
		if a.sources[f.Envs[0]] == "--"+f.Name && shown(f) == value {
			flags += " --" + f.Name + "=" + shellWord(value)
		}
	}
	return flags
}

// psql is the command that connects psql to the database, without a password in it; empty where there is no such.
func (a *app) psql(u databaseURLs) string {
	psql, err := exec.LookPath("psql")
	if err == nil {
		psql = "psql"
	}
	if a.private() {
		if in, findErr := devpg.FindFor(a.AssetsDir, a.DataDir); err != nil && findErr == nil {
			psql = filepath.Join(in.Bin, "psql")
			_, err = os.Stat(psql)
		}
		if err != nil {
			return ""
		}
		return ". ./dev.env; " + shellWord(psql) + ` "$KONSTRUCT_SUPERUSER_DATABASE_URL"`
	}
	if err != nil {
		return ""
	}
	setting, secret := appSetting, u.app
	if a.AppPassword != "" {
		setting, secret = passwordSetting(appSetting), a.AppPassword
	}
	value := ""
	switch from := a.sources[setting]; {
	case from == "environment":
		value = `"$` + setting + `"`
	case strings.HasPrefix(from, "derived"): // and no password was set
		return psql + " " + shellWord(u.app)
	case strings.HasPrefix(from, "--"):
		if mask(secret) != secret || setting != appSetting {
			return "" // it would have to be printed
		}
		return psql + " " + shellWord(u.app)
	default:
		value = fmt.Sprintf(`"$(sed -n s/^%s=//p %s)"`, setting, shellWord(from))
	}
	if setting == appSetting {
		return psql + " " + value
	}
	if base, _ := baseOf(u.app); base != "" {
		return "PGPASSWORD=" + value + " " + psql + " " + shellWord(asRole(base, appRole, ""))
	}
	return ""
}

var plainWord = regexp.MustCompile(`^[A-Za-z0-9_./:@%+=,-]+$`)

// shellWord is a word as a shell reads it.
func shellWord(s string) string {
	if plainWord.MatchString(s) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/konstruct/konstruct/internal/provision"
	"github.com/konstruct/konstruct/migrations"
)

// credential is a role with the URL that it shall have.
type credential struct {
	migrations.Role
	state  provision.RoleState
	url    string
	set    bool // give an existing role this password
	worked bool // the env file's URL works, and is replaced all the same
}

// password is the URL's.
func (c credential) password() string {
	u, err := url.Parse(c.url)
	if err != nil {
		return ""
	}
	password, _ := u.User.Password()
	return password
}

// planRoles decides for each role whether its password stays, or a new one is drawn. It changes nothing.
func (a *app) planRoles(ctx context.Context, t provision.Target, states map[string]provision.RoleState, env *initEnv,
	reset bool) ([]credential, error) {
	if err := powerless(states); err != nil {
		return nil, err
	}
	var all []credential
	var lost []string
	for _, role := range migrations.Roles() {
		c := credential{Role: role, state: states[role.Name], url: env.url(role.Name)}
		if known := (credential{url: a.urlOf(role.Name)}).password(); c.url == "" && known != "" {
			// from the environment or --config: another database of this cluster, perhaps
			c.url = t.URL(role.Name, known)
		}
		if !c.state.Exists {
			if !provision.Plain(c.password()) {
				c.url = t.URL(role.Name, provision.DrawPassword())
			}
			all = append(all, c)
			continue
		}
		works, err := loginWorks(ctx, c)
		if err != nil {
			return nil, err
		}
		switch {
		case reset || !c.state.Login: // nobody uses the password of a role that may not log in
			c.worked, c.set, c.url = works, true, t.URL(role.Name, provision.DrawPassword())
		case !works:
			lost = append(lost, role.Name)
		}
		all = append(all, c)
	}
	if len(lost) > 0 {
		return nil,
			fmt.Errorf("these roles exist, and %s has no password that works for them: %s; put the env file back, "+
				"or have new passwords drawn with --reset-passwords: programs that use the old ones are refused from "+
				"then on. "+
				"Nothing was changed",
				env.path, strings.Join(lost, ", "))
	}
	return all, nil
}

// powerless refuses roles that row security or the append-only trail would not bind.
func powerless(states map[string]provision.RoleState) error {
	var found, sql []string
	for _, role := range migrations.Roles() {
		if powers := states[role.Name].Powers; powers != "" {
			found = append(found, role.Name+" ("+powers+")")
			sql = append(sql, "ALTER ROLE "+role.Name+" NO"+strings.ReplaceAll(powers, " ", " NO")+";")
		}
	}
	if len(found) == 0 {
		return nil
	}
	return fmt.Errorf("these roles exist, with powers that they must not have: %s. Nothing was changed: run %s as a "+
		"superuser, then konstruct init again", strings.Join(found, ", "), strings.Join(sql, " "))
}

// loginWorks reports whether a role can log in by the URL that is known of it.
func loginWorks(ctx context.Context, c credential) (bool, error) {
	if c.url == "" || !c.state.Login {
		return false, nil
	}
	err := provision.CheckLogin(ctx, c.url)
	if errors.Is(err, provision.ErrPassword) {
		return false, nil
	}
	return err == nil, err
}

// urlOf is the URL in force of a role, where it is that role's.
func (a *app) urlOf(role string) string {
	for _, raw := range []string{a.DatabaseURL, a.OwnerDatabaseURL, a.NotaryDatabaseURL, a.ComplianceDatabaseURL,
		a.WorkerDatabaseURL} {
		if u, err := url.Parse(raw); err == nil && u.User.Username() == role {
			return raw
		}
	}
	return ""
}

// ensureRoles creates the roles. The env file has a password before the role does: a run that is killed between
// can go on.
func (r *initRun) ensureRoles(ctx context.Context, roles []credential) error {
	for _, c := range roles {
		if !c.set {
			r.env.setURL(c.Name, c.url)
		}
	}
	if err := r.env.write(); err != nil {
		return err
	}
	for _, c := range roles {
		step, err := r.server.EnsureRole(ctx, c.Role, c.state, c.password(), c.set)
		if err != nil {
			return err
		}
		if step.State == provision.Denied && c.worked {
			step.Detail, step.SQL = "its password works, and you may not change it: "+step.Detail, nil
		} else if c.set {
			r.env.setURL(c.Name, c.url)
			if err := r.env.write(); err != nil {
				return err
			}
		}
		r.add(step)
		if step.State == provision.Created || step.State == provision.Changed {
			if err := provision.CheckLogin(ctx, c.url); err != nil {
				return fmt.Errorf("log in as %s with its new password: %w", c.Name, err)
			}
		}
	}
	return nil
}

// denied reports whether a step that the others need was denied.
func (r *initRun) denied() bool {
	return slices.ContainsFunc(r.steps, func(s provision.Step) bool { return s.State == provision.Denied })
}

package main

import (
	"cmp"
	"context"
	"fmt"

	"github.com/konstruct/konstruct/internal/provision"
	"github.com/konstruct/konstruct/migrations"
)

// printInitSQL prints the script that does what init does. It asks no server: only the administrator
// may be able to reach it. The passwords go into the env file, and the script holds verifiers of them.
func (a *app) printInitSQL(ctx context.Context, c initCmd, env *initEnv) error {
	adminURL := cmp.Or(a.SuperuserDatabaseURL, "postgres://localhost:"+provision.DefaultPort+"/")
	t, err := provision.NewTarget(adminURL, c.Address, c.Database)
	if err != nil {
		return coded{err, exitUsage}
	}
	if err := env.belongs(ctx, t, ""); err != nil {
		return err
	}
	r := &initRun{app: a, cmd: c, env: env}
	env.mark("", c.Database)
	r.setFolders()
	script := provision.Script{Database: c.Database, EnvFile: env.path, Verifiers: map[string]string{}}
	for _, role := range migrations.Roles() {
		cred := credential{Role: role, url: env.url(role.Name)}
		if c.ResetPasswords || !provision.Plain(cred.password()) {
			cred.url = t.URL(role.Name, provision.DrawPassword())
		}
		env.setURL(role.Name, cred.url)
		if script.Verifiers[role.Name], err = provision.Verifier(cred.password()); err != nil {
			return err
		}
	}
	written := env.changed
	if err := env.write(); err != nil {
		return err
	}
	if written {
		fmt.Fprintf(a.err, "konstruct: the roles' passwords are in %s (mode 0600), for %s; "+
			"the script holds only their verifiers\n",
			env.path, t)
	}
	return script.Write(a.out)
}

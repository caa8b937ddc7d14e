package main

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/konstruct/konstruct/internal/provision"
	"github.com/konstruct/konstruct/notary"
)

// envStep notes the env file as it is, and returns what says what became of it.
func (r *initRun) envStep() func() provision.Step {
	before := slices.Clone(r.env.lines)
	return func() provision.Step {
		step := provision.Step{Name: "env file " + r.env.path, State: provision.Exists, Detail: "mode 0600"}
		if !r.env.existed {
			step.State = provision.Created
		} else if !slices.Equal(before, r.env.lines) {
			step.State = provision.Changed
		}
		return step
	}
}

// ensureKeys makes the secret of API keys, and the notary's key where its name is decided: it begins every log's
// name for good.
func (r *initRun) ensureKeys() error {
	secret := cmp.Or(r.KeySecretFile, filepath.Join(r.DataDir, "access", "secret"))
	step := provision.Step{Name: "secret of API keys", State: provision.Exists, Detail: secret}
	if _, err := os.Stat(secret); errors.Is(err, fs.ErrNotExist) {
		step.State = provision.Created
	}
	if _, err := r.keySecret(); err != nil {
		return err
	}
	r.add(step)
	step = provision.Step{Name: "notary's key", State: provision.Exists, Detail: r.keys().File}
	_, err := r.keys().Read()
	if errors.Is(err, notary.ErrNoKey) && r.NotaryName != "" {
		step.State = provision.Created
		_, err = r.keys().Load()
	} else if errors.Is(err, notary.ErrNoKey) {
		step.State, err = provision.Skipped, nil
		step.Detail = "the notary creates it, with a name that stays: see below"
	}
	if err != nil {
		return err
	}
	r.add(step)
	return nil
}

// checkName refuses another name than that of the notary's key, before anything is written.
func (r *initRun) checkName() error {
	_, err := r.keys().Read()
	if err != nil && !errors.Is(err, notary.ErrNoKey) {
		return coded{fmt.Errorf("%w. Nothing was changed: leave out --notary-name, or remove "+
			"KONSTRUCT_NOTARY_NAME from %s", err, r.env.path), exitUsage}
	}
	return nil
}

// report prints what was done, what a database administrator has to do, and what comes next; err is what init
// stopped at.
func (r *initRun) report(err error) error {
	if len(r.steps) == 0 {
		return err
	}
	next := r.next(err)
	if r.JSON {
		printed := r.json(map[string]any{"steps": r.steps, "env_file": r.env.path, "cluster": r.server.Cluster,
			"database": r.cmd.Database, "next": next})
		return cmp.Or(err, printed, r.deniedError())
	}
	printed := printTable(r.app, r.steps, []string{"STATE", "STEP", ""}, func(s provision.Step) []string {
		return []string{string(s.State), s.Name, s.Detail}
	})
	if err = cmp.Or(err, printed); err != nil {
		return err
	}
	if r.denied() {
		fmt.Fprintf(r.out, "\nA database administrator has to run, as a superuser:\n")
		database := ""
		for _, s := range r.steps {
			if len(s.SQL) > 0 && s.Database != database {
				database = s.Database
				fmt.Fprintf(r.out, "  \\connect %s\n", database)
			}
			for _, sql := range s.SQL {
				fmt.Fprintln(r.out, "  "+sql)
			}
		}
	}
	if slices.ContainsFunc(r.steps, func(s provision.Step) bool { return s.Detail == needsDenied }) {
		fmt.Fprintln(r.out,
			"or, for this and all that comes after it, the script that konstruct init --print-sql prints")
	}
	fmt.Fprintln(r.out, "\nNext:")
	for _, line := range next {
		fmt.Fprintln(r.out, "  "+line)
	}
	return r.deniedError()
}

func (r *initRun) deniedError() error {
	n := 0
	for _, s := range r.steps {
		if s.State == provision.Denied {
			n++
		}
	}
	if n == 0 {
		return nil
	}
	return coded{fmt.Errorf("permission denied to %s for %d of %d steps: "+
		"have a database administrator run what is shown above, "+
		"then run konstruct init again",
		r.server.User, n, len(r.steps)), exitDenied}
}

// next says what to do after init.
func (r *initRun) next(err error) (lines []string) {
	if err != nil || r.denied() {
		return []string{"run konstruct init again with the same options when that is done: it goes on where it stopped"}
	}
	if path, err := filepath.Abs(r.env.path); r.env.path != defaultEnvFile && err == nil {
		lines = append(lines, "export KONSTRUCT_ENV_FILE="+path)
	}
	if _, err := r.keys().Read(); errors.Is(err, notary.ErrNoKey) {
		lines = append(lines,
			"konstruct init --notary-name example.com/audit …   # names the logs, for good: before they begin")
	}
	lines = append(lines, "konstruct doctor               # checks what is promised",
		"konstruct serve                # the HTTP API, the notary that signs the logs, the worker")
	for _, url := range roleSettings() {
		for _, setting := range []string{url, passwordSetting(url)} {
			if v, ok := os.LookupEnv(setting); ok && v != r.env.values[setting] {
				lines = append(lines, "unset "+setting+"   # it is set in the environment, and wins over the env file")
			}
		}
	}
	slices.SortStableFunc(lines, func(a, b string) int { return cmp.Compare(rank(a), rank(b)) })
	return lines
}

// rank puts what changes the environment first.
func rank(line string) int {
	if len(line) > 5 && (line[:5] == "unset" || line[:6] == "export") {
		return 0
	}
	return 1
}

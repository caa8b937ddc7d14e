package main

import (
	"fmt"

	"github.com/konstruct/konstruct/internal/completion"
)

type completionCmd struct {
	Shell string `arg:"" enum:"${shells}" help:"bash, zsh, fish or powershell."`
}

// Help is shown by --help.
func (completionCmd) Help() string {
	return "The script asks the program itself what may follow: commands, flags, their values, and files. " +
		"docs/cli.md says where each shell reads it.\n\nExamples:\n\n" +
		"  source <(konstruct completion bash)\n" +
		"  konstruct completion zsh > ~/.zfunc/_konstruct\n" +
		"  konstruct completion fish > ~/.config/fish/completions/konstruct.fish"
}

// Run prints the script.
func (c completionCmd) Run(a *app) error {
	script, err := completion.Script(c.Shell)
	if err != nil {
		return err
	}
	_, err = fmt.Fprint(a.out, script)
	return err
}

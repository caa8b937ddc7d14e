package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

// parseHelp reads help COMMAND as COMMAND --help. Whoever asks for help config is shown the settings that all commands
// have in common, which would fill a screen before each command's own.
func parseHelp(args []string) (asked []string, settings bool) {
	if len(args) == 0 || args[0] != "help" {
		return args, false
	}
	asked = slices.Concat(args[1:], []string{"--help"})
	return asked, slices.Equal(args[1:], []string{"config"})
}

// helpPrinter prints a command's help, with the settings that all commands have where all is true.
func (a *app) helpPrinter(all bool) kong.HelpPrinter {
	return func(o kong.HelpOptions, ctx *kong.Context) error {
		for _, f := range a.settingFlags {
			f.Hidden = !all
		}
		for _, f := range ctx.Model.Flags {
			f.Hidden = f.Hidden || f.Name == "version" && ctx.Selected() != nil
		}
		if n := ctx.Selected(); n != nil {
			n.Detail = detail(n)
		}
		if err := kong.DefaultHelpPrinter(o, ctx); err != nil || all {
			return err
		}
		_, err := fmt.Fprintln(ctx.Stdout,
			"\nWhat all commands have, as connection URLs and folders: konstruct help config")
		return err
	}
}

// detail is what a command's help says beyond its one line, with an example.
func detail(n *kong.Node) string {
	if example := examples[commandOf(n)]; example != "" {
		return strings.TrimSpace(n.Detail + "\n\nExample:\n\n  " + example)
	}
	return n.Detail
}

// commandOf is what a command is called, without the program.
func commandOf(n *kong.Node) string {
	name := n.Name
	for p := n.Parent; p != nil && p.Type == kong.CommandNode; p = p.Parent {
		name = p.Name + " " + name
	}
	return name
}

// commandGroups are the headings of the list of commands.
func commandGroups() []kong.Group {
	return []kong.Group{
		{Key: "start", Title: "Get started:"},
		{Key: "trail", Title: "Audit trail:"},
		{Key: "kb", Title: "Knowledge base:"},
		{Key: "run", Title: "Operate:"},
		{Key: "dev", Title: "Develop:"},
		{Key: "shell", Title: "Shell and manual:"},
	}
}

// dashHint says how to write an argument that begins with a dash, where the user may have meant one.
func dashHint(args []string, err error) string {
	if !strings.HasPrefix(err.Error(), "unknown flag") || slices.Contains(args, "--") {
		return ""
	}
	return "; an argument that begins with - goes behind --, as in konstruct audit search -- damaged -refund"
}
